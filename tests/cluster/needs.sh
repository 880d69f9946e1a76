# Prints the Debian packages that `make test-cluster` lacks here, on one line; nothing if it has all.
missing=""
while read -r package program; do
  command -v "$program" > /dev/null || PATH=/usr/sbin:/sbin:$PATH command -v "$program" > /dev/null || missing="$missing $package"
done <<END
iproute2 ip
munge munged
openssh-client ssh
openssh-server sshd
slurm-wlm slurmctld
sshfs sshfs
util-linux unshare
END
echo $missing
