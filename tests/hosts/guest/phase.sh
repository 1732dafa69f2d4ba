#!/bin/sh
# One phase of the machine: becomes pytest with the arguments in /cleave/job/$1, its output on the console.
#
# It becomes it, since a cgroup that was given to an engine may have no process beside the engine's.
exec >/dev/ttyS0 2>&1 </dev/null
set -f
IFS='
'
cd /cleave || exit 1
export PYTHONPATH=/cleave/site PYTHONDONTWRITEBYTECODE=1 HOME=/tmp LC_ALL=C.UTF-8 COLUMNS=140
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# The machine is the run's alone: what is skipped there is a failure, and what is left there is the run's.
export CI=true CLEAVE_HOST_PHASE="$1"
CLEAVE_COUNTS=$(cat /cleave/job/counts)
# The processor is emulated: what a test does not measure may take ten times as long.
export CLEAVE_COUNTS CLEAVE_TEST_SLOWER=10
echo "cleave-host phase $1: in $(tr '\n' ' ' </proc/self/cgroup)"
# shellcheck disable=SC2046  # an argument a line
exec python3 -m pytest -p tests.hosts.guest.phase -p no:cacheprovider -p no:hypothesispytest --color=no \
    $(cat "/cleave/job/$1")
