# SPDX-License-Identifier: BSD-3-Clause
#
# Completion of wtcachectl in fish.

set -g __wtcachectl_commands status flush drop discard prefetch get set metrics trace \
    list help

# The words of the command line without options, from the command on; before
# them the server, if one is named.
function __wtcachectl_words
    set -l all (commandline -opc)
    string match -v -- '-*' $all[2..-1]
end

function __wtcachectl_server
    set -l words (__wtcachectl_words)
    if set -q words[1]; and not contains -- $words[1] $__wtcachectl_commands
        echo $words[1]
    end
end

# __wtcachectl_at COMMAND NUMBER: whether the argument of this number of the
# command is typed; an empty command: none was typed yet.
function __wtcachectl_at
    set -l words (__wtcachectl_words)
    if set -q words[1]; and not contains -- $words[1] $__wtcachectl_commands
        set -e words[1]
    end
    if test -z "$argv[1]"
        not set -q words[1]
        return
    end
    test "$words[1]" = $argv[1]; and test (count $words) -eq $argv[2]
end

# __wtcachectl_options COMMAND: the lines NAME=VALUES of its help.
function __wtcachectl_options
    wtcachectl help $argv[1] 2>/dev/null |
        string replace -rf '^  ([-a-z]+=[^ ]*).*' '$1'
end

function __wtcachectl_set_value
    set -l words (__wtcachectl_words)
    __wtcachectl_options set | string replace -f -- "$words[-1]=" '' |
        string split '|' | string match -r -- '^[a-z].*'
end

function __wtcachectl_exports
    timeout 2 wtcachectl (__wtcachectl_server) status 2>/dev/null |
        string replace -rf '^export "(.*)"(?: \(TLS\))?(?: \(one connection\))?: .*' '$1'
end

function __wtcachectl_servers
    set -l folder /run/wtcache
    if set -q WTCACHE_RUN
        set folder $WTCACHE_RUN
    end
    for path in $folder/*.ctl
        string replace -r '.*/(.*)\.ctl$' '$1' -- $path
    end
end

complete -c wtcachectl -f
complete -c wtcachectl -s j -l json -d 'print the answer as JSON'
complete -c wtcachectl -s t -l timeout -x -d 'wait so many seconds'
complete -c wtcachectl -s h -l help -d 'show the help'
complete -c wtcachectl -s V -l version -d 'show the version'
complete -c wtcachectl -s y -l yes -d 'discard: data is lost for good'
complete -c wtcachectl -n '__wtcachectl_at ""' -a status -d 'show what is where'
complete -c wtcachectl -n '__wtcachectl_at ""' -a flush -d 'write and flush everything'
complete -c wtcachectl -n '__wtcachectl_at ""' -a drop -d 'forget what is clean'
complete -c wtcachectl -n '__wtcachectl_at ""' -a discard -d 'give up what the backend refuses'
complete -c wtcachectl -n '__wtcachectl_at ""' -a prefetch -d 'read into the cache'
complete -c wtcachectl -n '__wtcachectl_at ""' -a get -d 'show options as they are now'
complete -c wtcachectl -n '__wtcachectl_at ""' -a metrics \
    -d 'print the statistics for Prometheus'
complete -c wtcachectl -n '__wtcachectl_at ""' -a set -d 'change an option'
complete -c wtcachectl -n '__wtcachectl_at ""' -a trace -d 'record reads and writes'
complete -c wtcachectl -n '__wtcachectl_at ""' -a list -d 'show the servers in /run/wtcache'
complete -c wtcachectl -n '__wtcachectl_at ""' -a help -d 'show the help'
complete -c wtcachectl -n '__wtcachectl_at ""; and test -z (__wtcachectl_server)' -F -a '(__wtcachectl_servers)'
for command in flush drop discard prefetch
    complete -c wtcachectl -n "__wtcachectl_at $command 1" -a '(__wtcachectl_exports)'
end
complete -c wtcachectl -n '__wtcachectl_at trace 1' -F
complete -c wtcachectl -n '__wtcachectl_at trace 3' -a '(__wtcachectl_exports)'
complete -c wtcachectl -n '__wtcachectl_at set 1' -a '(__wtcachectl_options set | string replace -r "=.*" "")'
complete -c wtcachectl -n '__wtcachectl_at set 2' -a '(__wtcachectl_set_value)'
complete -c wtcachectl -n '__wtcachectl_at get 1' -a '(__wtcachectl_options get | string replace -r "=.*" "")'
complete -c wtcachectl -n '__wtcachectl_at help 1' -a "$__wtcachectl_commands"
