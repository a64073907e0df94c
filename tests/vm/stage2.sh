# Process 1 of the guest after init.sh, in the host's files: mounts what a tracer expects, runs the job
# that the host left in the run folder (vm.run=... on the kernel's command line), and powers off.
B=/run/vm/busybox
$B mkdir -p /dev/pts /dev/shm
$B mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
$B mount -t tmpfs -o mode=1777 tmpfs /dev/shm
$B ln -sf /proc/self/fd /dev/fd
for n in 0:stdin 1:stdout 2:stderr; do $B ln -sf fd/${n%:*} /dev/${n#*:}; done
$B mount -t tracefs tracefs /sys/kernel/tracing
$B mount -t debugfs debugfs /sys/kernel/debug
$B mount -t bpf bpf /sys/fs/bpf
$B mount -t cgroup2 cgroup2 /sys/fs/cgroup
$B hostname vm
$B ip link set lo up
ulimit -n 65536; ulimit -l unlimited; ulimit -c 0

# the kernel itself calls /sbin/modprobe, and the host may have none
[ -e /sbin/modprobe ] || $B ln -s $B /sbin/modprobe
for word in $($B cat /proc/cmdline); do
  case $word in
    vm.run=*) run=${word#*=} ;;
    vm.modules=*) modules=${word#*=} ;;
  esac
done
release=$($B uname -r)
$B mkdir -p /lib/modules
[ -e /lib/modules/$release ] || $B ln -s $modules /lib/modules/$release

$B sh $run/mounts.sh
: > $run/up
# Through pipes, not straight to the ports: a port can be opened once, /dev/stdout any number of times.
$B mkfifo /run/vm/out /run/vm/err
for port in /dev/vport*p1; do port=${port%1}; done
$B cat /run/vm/out > ${port}1 & out=$!
$B cat /run/vm/err > ${port}2 & err=$!
$B setsid $B sh $run/job.sh < /dev/null > /run/vm/out 2> /run/vm/err
status=$?
# something left in the background may hold the pipes open: do not wait for it for ever
( $B sleep 3; kill $out $err ) > /dev/null 2>&1 &
wait $out $err
echo $status > $run/status
$B sync
$B poweroff -f
