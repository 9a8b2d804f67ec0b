#!/usr/bin/env bash
# A cluster on one machine: as many hosts as asked for, each with a name and a network of its own, behind a switch; every
# link shaped. Needs root on Linux; all of it is removed at the end.
#
#   Tests/Cluster/hosts.sh HOSTS RATE COMMAND…            RATE as tc has it: 1gbit
#   Tests/Cluster/hosts.sh 4 1gbit mpirun -n 4 .build/release/feedback train …
#
# COMMAND runs on host0; mpirun, of Open MPI or of MPICH, starts one rank on each of host0, host1 …, where `ssh` leads too.
set -euo pipefail
hosts=$1 rate=$2
shift 2
[ "$(id -u)" = 0 ] || {
    echo "hosts.sh makes network namespaces: start it as root" >&2
    exit 1
}

# Several clusters can be there at once: everything has the number of this process in its name.
id=$$ folder=$(mktemp -d)
cleanup() {
    for ((h = 0; h < hosts; h++)); do
        ip netns pids "c$id-$h" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
        ip netns del "c$id-$h" 2>/dev/null || true
    done
    ip netns del "c$id" 2>/dev/null || true
    rm -rf "$folder"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# The switch has a namespace too: nothing of the machine's own network changes.
ip netns add "c$id"
ip -n "c$id" link add switch type bridge
ip -n "c$id" link set switch up
for ((h = 0; h < hosts; h++)); do
    host=c$id-$h
    ip netns add "$host"
    ip -n "$host" link set lo up
    ip link add eth0 netns "$host" type veth peer name "port$h" netns "c$id"
    ip -n "c$id" link set "port$h" master switch up
    ip -n "$host" addr add "10.77.0.$((h + 1))/24" dev eth0
    ip -n "$host" link set eth0 up
    # Both directions, as a cable has them. Packets of at most 64 KiB: what the kernel hands over at once.
    for end in "$host eth0" "c$id port$h"; do
        tc -n ${end% *} qdisc add dev ${end#* } root tbf rate "$rate" burst 256kb latency 20ms
    done
    echo "10.77.0.$((h + 1)) host$h" >>"$folder/hosts"
    echo "host$h" >>"$folder/names"
    echo "host$h slots=1" >>"$folder/hostfile"
done

# What mpirun takes for ssh: [options] HOST COMMAND…
cat >"$folder/ssh" <<AGENT
#!/bin/bash
while [[ \$1 == -* ]]; do shift; done
host=\$1
shift
exec ip netns exec "c$id-\${host#host}" unshare --uts bash -c '
    hostname "\$0" && mount --bind "$folder/hosts" /etc/hosts && exec bash -c "\$*"' "\$host" "\$@"
AGENT
chmod +x "$folder/ssh"

# Open MPI's settings, and MPICH's: the hosts, what starts a process there, the network between them.
export PATH=$folder:$PATH
export OMPI_MCA_plm_rsh_agent=$folder/ssh OMPI_MCA_orte_default_hostfile=$folder/hostfile
export OMPI_MCA_btl_tcp_if_include=eth0 OMPI_MCA_oob_tcp_if_include=eth0
export HYDRA_LAUNCHER_EXEC=$folder/ssh HYDRA_LAUNCHER=ssh HYDRA_HOST_FILE=$folder/names HYDRA_IFACE=eth0
# UCX, under either, sees through the names: it is one machine, with memory to share.
export UCX_TLS=tcp,self UCX_NET_DEVICES=eth0
# Each host's mpirun would bind its first rank to the same core.
export OMPI_MCA_hwloc_base_binding_policy=none
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
"$folder/ssh" host0 "cd $(printf %q "$PWD") && $(printf '%q ' "$@")"
