#!/bin/sh
# Takes everything out of a cluster that manifests/ brought, in an order in which no work is lost and no pod is left waiting
# for a controller that is gone (docs/decisions/0027). make undeploy runs it. MiniClusters and their pods stay. Each step
# says what it does and may be repeated: when something fails or is in the way, run it again.
#
#   KUBECTL        how kubectl is called, for example "kubectl --context=test"
#   MANIFESTS      what was applied: manifests, or an overlay of it
#   KEEP_NODES=1   leaves the nodes of NodePools, with the pods on them; nobody removes their machines any more
#   TIMEOUT        how many seconds each step may take
#   CONTROLLER     how the controller's binary is called
set -eu
cd "$(dirname "$0")/.."
: "${KUBECTL:=kubectl}" "${MANIFESTS:=manifests}" "${TIMEOUT:=600}" "${CONTROLLER:=go run ./cmd/controller}" "${KEEP_NODES:=}"
namespace=ensemble-autoscaler-system
group=autoscaling.flux-framework.org
ensembles=ensembles.ensemble.flux-framework.org
registering=startup-taint.cluster-autoscaler.kubernetes.io/ensemble-autoscaler

# shellcheck disable=SC2086 # It may be several words.
k() { $KUBECTL "$@"; }
say() { printf '==> %s\n' "$*"; }
fail() {
	printf '%s\n' "$*" >&2
	exit 1
}

case "$KEEP_NODES" in
'' | 0 | 1) ;;
*) fail "KEEP_NODES is $KEEP_NODES; it has to be 1, or empty" ;;
esac
case "$TIMEOUT" in
'' | *[!0-9]*) fail "TIMEOUT is $TIMEOUT; it has to be a number of seconds" ;;
esac

# What cannot be read must not be taken for what is not there: answers are kept in variables, and no answer ends the script.

# defined is true when the cluster knows a kind.
defined() {
	definition=$(k get customresourcedefinition "$1" --ignore-not-found -o name) || exit 1
	[ -n "$definition" ]
}

# pools, and members, list what there is, a name in each line.
pools() { ! defined "nodepools.$group" || k get "nodepools.$group" -o name; }
members() { ! defined "ensemblemembers.$group" || k get "ensemblemembers.$group" -A -o name; }
count() { printf '%s' "$1" | grep -c . || true; }

# running lists the pods that keep the nodes of NodePools, as POOL NODE NAMESPACE/NAME: those that have not ended and are
# not of the node itself.
running() {
	nodes=$(k get nodes -l "$group/node-pool" -o go-template='{{range .items}}node {{.metadata.name}} {{index .metadata.labels "'"$group"'/node-pool"}}{{"\n"}}{{end}}') || return 1
	[ -n "$nodes" ] || return 0
	pods=$(k get pods -A --field-selector=spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed -o go-template='{{range .items}}pod {{.spec.nodeName}} {{.metadata.namespace}}/{{.metadata.name}} {{if .metadata.annotations}}{{if index .metadata.annotations "kubernetes.io/config.mirror"}}mirror{{end}}{{end}}{{range .metadata.ownerReferences}}{{.kind}}{{end}}{{"\n"}}{{end}}') || return 1
	printf '%s\n%s\n' "$nodes" "$pods" | awk '
		$1 == "node" { pool[$2] = $3 }
		$1 == "pod" && ($2 in pool) && $4 !~ /^(mirror|DaemonSet)/ { print pool[$2], $2, $3 }'
}

# machines lists the records of machines, a name in each line. The provider lets one go when its machine is gone.
machines() { ! defined "poolmachines.$group" || k get "poolmachines.$group" -o name; }

# refuse_work fails when there are pods that would keep the pools.
refuse_work() {
	[ "$KEEP_NODES" != 1 ] || return 0
	list=$(pools)
	[ -n "$list" ] || return 0
	work=$(running)
	[ -n "$work" ] || return 0
	printf '%s\n' "$work" | awk '
		{ pods[$1]++; if (pods[$1] <= 10) list[$1] = list[$1] "\n    " $3 " on " $2 }
		END { for (p in pods) printf "  NodePool %s has %d pods on its nodes:%s%s\n", p, pods[p], list[p], (pods[p] > 10 ? "\n    and " pods[p] - 10 " more" : "") }' >&2
	fail "The machines of a NodePool go when no pod is on their nodes any more. $1
Let these pods end, or delete them (MiniClusters: kubectl delete minicluster), and run it again. Or run it with KEEP_NODES=1:
then nodes and pods stay as they are, and removing the machines later is up to you."
}

# refuse_paused fails when a pool is paused, which nothing would be deleted of.
refuse_paused() {
	[ "$KEEP_NODES" != 1 ] || return 0
	list=$(pools)
	[ -n "$list" ] || return 0
	paused=$(k get "nodepools.$group" -o go-template='{{range .items}}{{if .spec.paused}}{{.metadata.name}} {{end}}{{end}}')
	[ -z "$paused" ] || fail "These NodePools are paused, so none of their machines is deleted: $paused
Set spec.paused to false and run it again. This run has changed nothing."
}

# wait_until runs a command every two seconds until it prints nothing, and says what it prints when that changes.
wait_until() {
	waited=0 before=
	while :; do
		now=$("$@") || now="the API server cannot be asked; trying again"
		[ -n "$now" ] || return 0
		[ "$now" = "$before" ] || printf '%s\n' "$now"
		before=$now
		[ "$waited" -lt "$TIMEOUT" ] || return 1
		sleep 2
		waited=$((waited + 2))
	done
}

# stop deletes a Deployment of the installation and waits until its pods are gone.
stop() {
	k -n "$namespace" delete deployment "$1" --ignore-not-found --cascade=foreground --timeout="${TIMEOUT}s" ||
		fail "The pods of Deployment $namespace/$1 are not gone after $TIMEOUT seconds; see why with kubectl -n $namespace get pods, and run it again."
}

# context prints a kubeconfig with what kubectl reaches the cluster by.
context() { k config view --raw --flatten --minify; }

# ungate releases all pods that wait for their nodes. It reaches the cluster that kubectl does.
ungate() {
	(
		umask 077
		kubeconfig=$(mktemp)
		trap 'rm -f "$kubeconfig"' EXIT
		trap 'exit 1' INT TERM
		context >"$kubeconfig"
		# shellcheck disable=SC2086 # It is several words.
		$CONTROLLER ungate --kubeconfig="$kubeconfig"
	)
}

# disown makes objects of a kind that a selector selects outlive their owners of another kind, KIND and APIVERSION. kubectl
# delete --cascade=orphan leaves that to the garbage collector, which forgets those that it has not heard of yet and
# deletes them later.
disown() {
	owned=$(k get "$1" -A -l "$2" -o go-template='{{range .items}}{{$object := .metadata}}{{range $i, $owner := .metadata.ownerReferences}}{{if and (eq $owner.kind "'"$3"'") (eq $owner.apiVersion "'"$4"'")}}{{$object.name}} {{$i}} {{$owner.uid}}{{with $object.namespace}} {{.}}{{end}}{{"\n"}}{{end}}{{end}}{{end}}')
	[ -n "$owned" ] || return 0
	printf '%s\n' "$owned" | while read -r name index uid in; do
		k patch "$1" "$name" ${in:+--namespace="$in"} --type=json --patch="[
			{\"op\": \"test\", \"path\": \"/metadata/ownerReferences/$index/uid\", \"value\": \"$uid\"},
			{\"op\": \"remove\", \"path\": \"/metadata/ownerReferences/$index\"}]"
	done
}

# Whatever a later step needs is tried here.
check() {
	say "1/8 what is there"
	all=$(k kustomize "$MANIFESTS") || fail "MANIFESTS is $MANIFESTS; it has to be the directory that was applied. This run has changed nothing."
	context >/dev/null || fail "The kubeconfig has to have a current context: the controller's ungate, which lets waiting pods be scheduled,
reaches the cluster by it. This run has changed nothing."
	# shellcheck disable=SC2086 # It is several words.
	$CONTROLLER --version || fail "CONTROLLER is $CONTROLLER, which does not run. Its ungate lets waiting pods be scheduled; where it
is not given, it is built, which needs Go. This run has changed nothing."
	refuse_paused
	refuse_work "This run has changed nothing."
	pools=$(pools)
	machines=$(machines)
	members=$(members)
	printf '%s NodePools, %s PoolMachines, %s EnsembleMembers\n' "$(count "$pools")" "$(count "$machines")" "$(count "$members")"
}

# Without the webhooks nothing is refused for want of the controller, and without the policy no new pod gets a gate.
admission() {
	say "2/8 webhooks, and the policy that gives new pods their gate"
	# An API server may be too old for some of the kinds. Discovery of all groups fails when any other server is down.
	served=$(k get --raw /apis/admissionregistration.k8s.io/v1)
	for kind in validatingwebhookconfigurations mutatingwebhookconfigurations mutatingadmissionpolicybindings mutatingadmissionpolicies; do
		case "$served" in *"\"$kind\""*) ;; *) continue ;; esac
		list=$(k get "$kind.admissionregistration.k8s.io" -o name)
		for object in $(printf '%s\n' "$list" | grep -E '/ensemble-autoscaler(-[a-z-]+)?$' || true); do
			k delete "$object" --ignore-not-found
		done
	done
}

# From here on nothing is resized, and no EnsembleMember made again.
controller() {
	say "3/8 the controller"
	stop controller
}

release() {
	say "4/8 the scheduling gates of pods that wait for nodes"
	ungate
}

# Ensembles own their MiniClusters, which have to outlive them. The nodes that members hold and no pod is on are released by
# the provider.
reservations() {
	say "5/8 Ensembles, whose MiniClusters stay, and EnsembleMembers"
	if defined "$ensembles"; then
		if defined miniclusters.flux-framework.org; then
			disown miniclusters.flux-framework.org '' Ensemble ensemble.flux-framework.org/v1alpha1
		fi
		disown configmaps ensemble.flux-framework.org/ensemble Ensemble ensemble.flux-framework.org/v1alpha1
		k delete "$ensembles" -A --all --cascade=orphan --timeout="${TIMEOUT}s"
	fi
	if defined "ensemblemembers.$group"; then
		k delete "ensemblemembers.$group" -A --all --timeout="${TIMEOUT}s"
		left=$(members)
		[ -z "$left" ] || fail "EnsembleMembers come back after they were deleted, so a controller still runs: stop it and run it again."
	fi
}

# held lists the nodes that the provider has not let go of.
held() {
	k get nodes -l "$group/node-pool" -o go-template='{{range .items}}{{$name := .metadata.name}}{{with .metadata.annotations}}{{with index . "'"$group"'/held-by"}}{{$name}} is held by {{.}}{{"\n"}}{{end}}{{with index . "'"$group"'/releasing"}}{{$name}} is being released{{"\n"}}{{end}}{{end}}{{end}}'
}

# going lists the pools that are being deleted, each with what it waits for.
going() {
	k get "nodepools.$group" -o go-template='{{range .items}}NodePool {{.metadata.name}}: {{range .status.conditions}}{{if eq .type "Ready"}}{{.message}}{{end}}{{end}}{{"\n"}}{{end}}'
}

# ending lists the machines that are being ended, each with how far it is.
ending() {
	k get "poolmachines.$group" -o go-template='{{range .items}}PoolMachine {{.metadata.name}}: {{range .status.conditions}}{{if eq .type "Ready"}}{{.message}}{{end}}{{end}}{{"\n"}}{{end}}'
}

node_pools() {
	say "6/8 NodePools and their machines"
	list=$(pools)
	records=$(machines)
	[ -n "$list$records" ] || return 0
	if [ "$KEEP_NODES" = 1 ]; then
		keep_nodes
		return 0
	fi
	[ -z "$list" ] || end_pools
	# A pool goes after its machines. A record that is left is of a pool that was deleted by force.
	records=$(machines)
	[ -n "$records" ] || return 0
	k delete "poolmachines.$group" --all --wait=false
	wait_until ending || fail "The machines above are not gone after $TIMEOUT seconds. The provider has to run for it; its log says more:
kubectl -n $namespace logs deployment/provider. Then run it again, or with KEEP_NODES=1, which leaves their nodes."
}

end_pools() {
	refuse_work "The controller is gone and all pods may be scheduled; pods have come to the nodes meanwhile, or were there."
	k delete "nodepools.$group" --all --wait=false
	wait_until going || fail "The NodePools above are not gone after $TIMEOUT seconds. The provider has to run for it; its log says more:
kubectl -n $namespace logs deployment/provider. Then run it again, or with KEEP_NODES=1, which leaves their nodes."
}

# keep_nodes ends the pools and leaves their nodes: for that the provider, which would take them apart, has to be gone first.
keep_nodes() {
	provider=$(k -n "$namespace" get deployment provider --ignore-not-found -o name)
	if [ -n "$provider" ]; then
		echo "waiting, for a minute at most, until the provider has let go of the nodes that no member needs"
		# What it has not done by then is done below.
		patience=$TIMEOUT TIMEOUT=60
		wait_until held || true
		TIMEOUT=$patience
		stop provider
	fi
	nodes=$(k get nodes -l "$group/node-pool" -o go-template='{{range .items}}{{.metadata.name}}{{with .metadata.annotations}}{{with index . "'"$group"'/releasing"}} releasing{{end}}{{with index . "'"$group"'/held-by"}} held{{end}}{{with index . "'"$group"'/given-up"}} held{{end}}{{end}}{{range .spec.taints}}{{if eq .key "'"$registering"'"}} registering{{end}}{{end}}{{"\n"}}{{end}}')
	printf '%s\n' "$nodes" | while read -r node marks; do
		# What the provider put there it would have taken away.
		case "$marks" in *releasing*) k taint node "$node" ToBeDeletedByClusterAutoscaler- || true ;; esac
		case "$marks" in *registering*) k taint node "$node" "$registering-" || true ;; esac
		case "$marks" in *held*) k annotate node "$node" cluster-autoscaler.kubernetes.io/scale-down-disabled- ;; esac
		[ -z "$node" ] || k annotate node "$node" "$group/reserved-" "$group/held-by-" "$group/given-up-" "$group/releasing-"
	done
	list=$(pools)
	if [ -n "$list" ]; then
		k delete "nodepools.$group" --all --wait=false
		list=$(pools)
		for pool in $list; do
			k patch "$pool" --type=merge --patch='{"metadata":{"finalizers":null}}'
		done
	fi
	forget_machines
	echo "the nodes stay, with their label $group/node-pool; nobody removes them or their machines any more:"
	printf '%s\n' "$nodes" | cut -d ' ' -f 1
}

# forget_machines deletes what is written down of machines and leaves their nodes. The provider, which lets records go when their
# machines are gone, has to be gone itself. A simulated machine owns its node, which would go with it: one that is left is one
# that was kept.
forget_machines() {
	for kind in poolmachines:PoolMachine kwokinstances:KwokInstance kwokmachines:KwokMachine; do
		resource=${kind%:*}.$group
		defined "$resource" || continue
		[ "${kind#*:}" = PoolMachine ] || disown nodes '' "${kind#*:}" "$group/v1alpha1"
		kept=$(k get "$resource" -o go-template='{{range .items}}{{if .metadata.finalizers}}{{.metadata.name}}{{"\n"}}{{end}}{{end}}')
		for name in $kept; do
			k patch "$resource" "$name" --type=merge --patch='{"metadata":{"finalizers":null}}'
		done
		k delete "$resource" --all --cascade=orphan --timeout="${TIMEOUT}s"
	done
	forget_claims
}

# forget_claims takes our finalizer off the NodeClaims of Karpenter that were made for machines: nobody would after this, and while a
# claim that has no machine is kept by it, Karpenter makes no other. The claims are left, as their nodes are.
forget_claims() {
	defined nodeclaims.karpenter.sh || return 0
	kept=$(k get nodeclaims.karpenter.sh -l "$group/node-pool" -o go-template='{{range .items}}{{$name := .metadata.name}}{{range $i, $finalizer := .metadata.finalizers}}{{if eq $finalizer "'"$group"'/nodeclaim"}}{{$name}} {{$i}}{{"\n"}}{{end}}{{end}}{{end}}')
	[ -n "$kept" ] || return 0
	printf '%s\n' "$kept" | while read -r name index; do
		k patch nodeclaims.karpenter.sh "$name" --type=json --patch="[
			{\"op\": \"test\", \"path\": \"/metadata/finalizers/$index\", \"value\": \"$group/nodeclaim\"},
			{\"op\": \"remove\", \"path\": \"/metadata/finalizers/$index\"}]"
	done
}

# Everything that is left but the namespace, which may hold something else.
rest() {
	say "7/8 the provider, rights, policies and definitions"
	stop provider
	forget_machines
	# Of a version before PoolMachines.
	k delete customresourcedefinition "kwokmachines.$group" --ignore-not-found --timeout="${TIMEOUT}s"
	printf '%s\n' "$all" | awk '
		function end() { if (kind != "Namespace" && kind !~ /^MutatingAdmissionPolicy/) printf "---\n%s", text; text = kind = "" }
		/^---$/ { end(); next }
		/^kind: / { kind = $2 }
		{ text = text $0 "\n" }
		END { end() }' | k delete --ignore-not-found --timeout="${TIMEOUT}s" -f -
}

# home deletes the namespace, unless there is work in it. The Secrets with certificates and the leases are in it.
home() {
	say "8/8 the namespace $namespace"
	home=$(k get namespace "$namespace" --ignore-not-found -o name)
	[ -n "$home" ] || return 0
	others=$(k -n "$namespace" get pods -l 'app.kubernetes.io/name notin (cluster-autoscaler, ensemble-autoscaler-controller, ensemble-autoscaler-provider)' -o name)
	if defined miniclusters.flux-framework.org; then
		clusters=$(k -n "$namespace" get miniclusters.flux-framework.org -o name)
		others="$others $clusters"
	fi
	[ -z "${others# }" ] || fail "The namespace $namespace stays, because there is more in it: $others
Everything else is gone. Move these elsewhere and run it again."
	k delete namespace "$namespace" --timeout="${TIMEOUT}s"
}

check
admission
controller
release
reservations
node_pools
rest
home
# An API server that had not yet heard of the policy's end may have given one more pod a gate.
ungate
say "done. MiniClusters and their pods were left alone; their annotations $group/* mean nothing any more."
say "The Cluster Autoscaler of the provider, where it is not in $namespace, is still there: delete it."
