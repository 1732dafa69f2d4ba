#!/bin/sh
# Process 1 of the machine that tests/hosts/machine.py starts: a Linux with the cgroups of one kind of host.
#
# The phases come one after the other, each a run of pytest whose arguments are in /cleave/job/<phase>. One boot has
# those of v1 or those of v2, since a controller that was used in one is not soon free for the other:
#   none          no cgroups are mounted
#   v1            pure v1, as systemd's legacy mode lays it out: all controllers, no v2 tree
#   hybrid        the same with a v2 tree beside it, which has no controllers
# or
#   bare          pure v2, in the root cgroup, nobody manages cgroups
#   delegated     pure v2, systemd is process 1, the run is a service with Delegate=yes
#   undelegated   pure v2, systemd is process 1, the run is a service without
# The last line on the console is `cleave-host end: {…}`, what each phase came to, by tests/hosts/guest/phase.py.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
here=/cleave/tests/hosts/guest
job=/cleave/job
out=/run/cleave-host

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 run /run
mkdir -p /dev/pts /dev/shm $out
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
exec >/dev/ttyS0 2>&1 </dev/null
# A real file system: sparse files and loop devices behave on it as on a host.
mount -t ext4 /dev/vdc /tmp && chmod 1777 /tmp
modprobe loop
busybox ip link set lo up
busybox hostname machine
read -r booted_s _ </proc/uptime
echo "cleave-host booted: $(uname -r), $booted_s s"

# By this a machine that has stopped is told from a test that takes long.
while sleep 5; do printf '\000'; done &

# In a shell of its own: what asks for its parent is to find another than process 1, which each sandbox has too.
phase() {
    [ ! -f $job/"$1" ] || (sh $here/phase.sh "$1"; true)
}

# Each controller of this kernel in a directory of its own, but those together that systemd puts together.
mount_v1() {
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    for controllers in $(awk '!/^#/ && $4 == 1 && $1 !~ /^(cpu|cpuacct)$/ { print $1 }' /proc/cgroups) cpu,cpuacct; do
        mkdir /sys/fs/cgroup/"$controllers"
        mount -t cgroup -o "$controllers" cgroup /sys/fs/cgroup/"$controllers"
    done
}

phase none
if [ -f $job/v1 ] || [ -f $job/hybrid ]; then
    # From Linux 6.11 on a kernel may be built without.
    grep -q '^memory\b' /proc/cgroups || { echo "cleave-host without v1: $(uname -r)"; exec sh $here/end.sh; }
    mount_v1
    phase v1
    mkdir /sys/fs/cgroup/unified
    mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
    phase hybrid
    exec sh $here/end.sh
fi
mount -t cgroup2 cgroup2 /sys/fs/cgroup
phase bare
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
