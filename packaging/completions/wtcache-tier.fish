# SPDX-License-Identifier: BSD-3-Clause
#
# Completion of wtcache-tier in fish.

complete -c wtcache-tier -n __fish_is_first_token -f -a 'format info check dump'
complete -c wtcache-tier -s s -l size -x -d 'format: bytes of it'
complete -c wtcache-tier -s p -l page -x -d 'format: bytes of a page'
complete -c wtcache-tier -s f -l force -d 'format: overwrite whatever is there'
complete -c wtcache-tier -s u -l upgrade -d 'format: empty a tier of an older version'
complete -c wtcache-tier -s d -l data -d 'check: read all pages, too'
complete -c wtcache-tier -s j -l json -d 'print as JSON'
complete -c wtcache-tier -s h -l help -d 'print the help'
complete -c wtcache-tier -s V -l version -d 'print the version'
