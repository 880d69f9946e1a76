# The first process of a machine: machine.sh NAME FOLDER. Runs in namespaces of its own, as root.
# FOLDER has hosts, keys/, bin/, and for each machine machines/NAME/{disk,log,sshd_config,host_key}.
set -e
name=$1
all=$2
own=$all/machines/$name
mount --make-rprivate /
hostname "$name"
mount -t proc proc /proc
mount -t tmpfs -o size=4g tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/sshd /run/munge /run/lock
mount --bind "$all/hosts" /etc/hosts
mount --bind "$own/disk" "$all/disk"
ip link set lo up
touch "$own/ready"
until [ -n "$(ip -4 addr show dev eth0 2>/dev/null)" ]; do sleep 0.05; done
/usr/sbin/sshd -E "$own/log/sshd" -f "$own/sshd_config"
trap '' HUP
while :; do # as the first process it takes in orphans
  sleep 3600 &
  wait $! || true
done
