# SPDX-License-Identifier: BSD-3-Clause
#
# Functions that ./check and ./quickstart share: to tell each step in one line
# and to install what is missing. Sourced; knows nothing of what they do.

# Of a log for a step that failed: each test that failed in it, with what
# follows of its report, then the last lines, for what ended otherwise.
show_log ()
{
  echo "---- from $1:"
  awk '/^not ok/ { left = 60 }
       /^(ok|PASS:)/ { left = 0 }
       left-- > 0' "$1"
  echo "---- the end of $1:"
  tail -n 40 "$1"
  echo "----"
}

# step LOG TEXT COMMAND...: runs the command, whose output goes to the log,
# and tells in one line what it was, how it ended and how long it took. The
# subshell keeps a function's cd to itself. A command that ends with
# $skip_status, where that is set, has left itself out, and why is its last
# line.
step ()
{
  local log=$1 text=$2 status=0 began=$SECONDS
  shift 2
  printf '%-62s ' "$text"
  ("$@") >"$log" 2>&1 </dev/null || status=$?
  if [ $status -eq 0 ]; then
    echo "ok, $((SECONDS - began)) s"
  elif [ "$status" = "${skip_status-}" ]; then
    echo "skipped, $((SECONDS - began)) s"
    echo "  skipped: $(tail -n 1 "$log")"
  else
    echo "FAILED, $((SECONDS - began)) s"
    show_log "$log"
  fi
  return $status
}

missing_packages ()
{
  local package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null |
      grep -qx installed || echo "$package"
  done
}

# Run by a shell of root. A policy-rc.d that says 101 keeps the packages from
# starting services; one that is there already is the administrator's.
install_script='
  set -e
  PATH=/usr/local/sbin:/usr/sbin:/sbin:$PATH
  export PATH DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
  policy=/usr/sbin/policy-rc.d
  if ! [ -e $policy ]; then
    trap "rm -f $policy" EXIT
    trap "exit 1" HUP INT TERM
    printf "#!/bin/sh\nexit 101\n" >$policy
    chmod 755 $policy
  fi
  options="-q -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0"
  install ()
  {
    apt-get $options update &&
    apt-get $options install -y --no-install-recommends "$@"
  }
  # A mirror may be away for a moment. The timeout is not for the lock of the
  # lists, which another apt may hold.
  for pause in 5 10 20 40; do
    ! install "$@" || exit 0
    echo "Once more in $pause s"
    sleep $pause
  done
  install "$@"
'

# need_packages LOG PACKAGE...: with nothing missing, this needs neither root
# nor the network.
need_packages ()
{
  local log=$1 missing as_root=
  shift
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null
  then
    echo "This installs packages with apt-get, which is not here;" \
         "see README.md for how to build without it." >&2
    return 1
  fi
  missing=$(missing_packages "$@")
  if [ -z "$missing" ]; then
    echo "Packages: all that is needed is installed"
    return 0
  fi
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "To install packages, run this as root or install sudo:" \
           $missing >&2
      return 1
    fi
    as_root=sudo
    # Should sudo want a password, it asks here and not behind a log.
    sudo true || return 1
  fi
  step "$log" "Packages: install $(echo "$missing" | wc -l) that are missing" \
       $as_root sh -c "$install_script" sh $missing
}

# Packages that the build needs, and those that only its tests and its documents
# need.
build_packages="build-essential autoconf automake pkgconf
  nbdkit nbdkit-plugin-dev libjansson-dev libncurses-dev"

# bootstrap_if_needed LOG: ./configure, where it is not there or too old.
bootstrap_if_needed ()
{
  if [ -e configure ] && [ -e Makefile.in ] && [ -e config.h.in ] &&
     [ -z "$(find configure.ac Makefile.am -newer configure)" ]; then
    return 0
  fi
  step "$1" "Bootstrap" ./bootstrap
}

# find_sources WORK LOG: sets $sources to a folder with the sources in which
# nothing was configured, as a build in another folder needs it: this one, or,
# after ./configure in it, a copy in WORK/source.
find_sources ()
{
  if ! [ -e config.status ]; then
    sources=$PWD
    return
  fi
  sources=$1/source
  step "$2" "Copy the sources, because ./configure ran here" \
    copy_sources "$sources" || {
      echo "The tree cannot be copied: run \`make distclean' in it first" >&2
      return 1
    }
}

# Times are kept, so that make builds again only what has changed.
copy_sources ()
{
  rm -rf "$1" && mkdir -p "$1" &&
  find . -mindepth 1 -maxdepth 1 \
    ! -name .git ! -name 'build*' ! -name sanitized ! -name mutants \
    ! -name 'wtcache-[0-9]*' -exec cp -a -t "$1" {} + &&
  cp -a build-aux "$1" &&
  cd "$1" &&
  { ! [ -e Makefile ] || make distclean; } &&
  rm -f config.status
}
