# SPDX-License-Identifier: BSD-3-Clause
#
# Completion of wtcache-replay in fish.

complete -c wtcache-replay -s w -l write -d 'send writes, too: overwrites the disk'
complete -c wtcache-replay -s f -l fast -d 'do not wait for the recorded times'
complete -c wtcache-replay -s s -l speed -x -d 'times as fast as recorded'
complete -c wtcache-replay -s d -l depth -x -d 'requests in flight'
complete -c wtcache-replay -s j -l json -d 'print as JSON'
complete -c wtcache-replay -s h -l help -d 'print the help'
complete -c wtcache-replay -s V -l version -d 'print the version'
