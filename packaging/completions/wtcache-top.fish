# SPDX-License-Identifier: BSD-3-Clause
#
# Completion of wtcache-top in fish.

complete -c wtcache-top -s 1 -l once -d 'print once, as text'
complete -c wtcache-top -s j -l json -d 'print as JSON'
complete -c wtcache-top -s r -l rates -d 'wait for rates'
complete -c wtcache-top -s i -l interval -x -d 'print one line an interval'
complete -c wtcache-top -s c -l curve -r -d 'draw the miss ratio by size'
complete -c wtcache-top -s h -l help -d 'print the help'
complete -c wtcache-top -l version -d 'print the version'
