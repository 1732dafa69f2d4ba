#!/bin/sh
# Process 1 of the machine that tests/hosts/machine.py starts: a Linux with cgroup v2 and nothing else mounted.
#
# The phases come one after the other, each a run of pytest whose arguments are in /cleave/job/<phase>:
#   bare          in the root cgroup, nobody manages cgroups
#   delegated     systemd is process 1, the run is a service with Delegate=yes
#   undelegated   systemd is process 1, the run is a service without
# The last line on the console is `cleave-v2 end: {…}`, what each phase came to, by tests/hosts/guest/phase.py.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
here=/cleave/tests/hosts/guest
job=/cleave/job
out=/run/cleave-v2

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 run /run
mkdir -p /dev/pts /dev/shm $out
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec >/dev/ttyS0 2>&1 </dev/null
# A real file system: sparse files and loop devices behave on it as on a host.
mount -t ext4 /dev/vdc /tmp && chmod 1777 /tmp
modprobe loop
busybox ip link set lo up
busybox hostname machine
export CLEAVE_V2_BOOTED_S
read -r CLEAVE_V2_BOOTED_S _ </proc/uptime
echo "cleave-v2 booted: $(uname -r), cgroup2 with $(cat /sys/fs/cgroup/cgroup.controllers), $CLEAVE_V2_BOOTED_S s"

# By this a machine that has stopped is told from a test that takes long.
while sleep 5; do printf '\000'; done &

# In a shell of its own: what asks for its parent is to find another than process 1, which each sandbox has too.
[ ! -f $job/bare ] || (sh $here/phase.sh bare; true)
[ -f $job/delegated ] || [ -f $job/undelegated ] || exec sh $here/end.sh

# $1: what the unit does, $2: a line for its [Unit]; lines for its [Service] on stdin.
unit() {
    { printf '[Unit]\nDefaultDependencies=no\n%s\n[Service]\nType=oneshot\nTimeoutStartSec=infinity\n' "$2" && cat; } \
        >/run/systemd/system/engine-"$1".service
}
mkdir -p /run/systemd/system /run/systemd/system.conf.d
unit delegated "" <<EOT
ExecStart=-/bin/sh $here/phase.sh delegated
Delegate=yes
OOMPolicy=continue
EOT
unit undelegated "After=engine-delegated.service" <<EOT
ExecStart=-/bin/sh $here/phase.sh undelegated
OOMPolicy=continue
EOT
unit end "After=engine-delegated.service engine-undelegated.service" <<EOT
ExecStart=/bin/sh $here/end.sh
EOT
wants=engine-end.service
for phase in delegated undelegated; do
    [ ! -f $job/$phase ] || wants="$wants engine-$phase.service"
done
printf '[Unit]\nDefaultDependencies=no\nWants=%s\n' "$wants" >/run/systemd/system/engine.target
printf '[Manager]\nShowStatus=no\nLogLevel=err\nLogTarget=console\n' >/run/systemd/system.conf.d/quiet.conf
exec /lib/systemd/systemd --unit=engine.target
