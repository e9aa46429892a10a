#!/bin/sh
# Installs everything, or upgrades what is installed: the definitions of the objects, the provider, the controller, and at
# last the webhooks and policies that need the controller (docs/decisions/0027). make deploy runs it. When something
# fails, say what it is and run it again.
#
#   KUBECTL     how kubectl is called, for example "kubectl --context=test"
#   MANIFESTS   what to apply: manifests, or an overlay of it; without it the version of the cluster decides
#   IMAGE       the image of both programs, in the place of the one in the manifests
#   TIMEOUT     how many seconds each step may take
set -eu
cd "$(dirname "$0")/.."
: "${KUBECTL:=kubectl}" "${MANIFESTS:=}" "${IMAGE:=}" "${TIMEOUT:=300}"
namespace=ensemble-autoscaler-system

# shellcheck disable=SC2086 # It may be several words.
k() { $KUBECTL "$@"; }
say() { printf '==> %s\n' "$*"; }

# choose says what to apply where nobody has said it. Which kinds are served is asked, and not the version alone: a MutatingAdmissionPolicy
# of 1.36 can be switched off.
choose() {
	version=$(k get --raw /version)
	version=$(printf '%s\n' "$version" | sed -n 's/.*"gitVersion": *"\([^"]*\)".*/\1/p')
	served=$(k get --raw /apis/admissionregistration.k8s.io/v1)
	case "$served" in
	*'"mutatingadmissionpolicies"'*)
		MANIFESTS=manifests
		say "manifests: Kubernetes $version serves MutatingAdmissionPolicies, by which pods get their gate"
		;;
	*)
		MANIFESTS=manifests/overlays/pod-webhook
		say "$MANIFESTS: Kubernetes $version serves no MutatingAdmissionPolicies, which came with 1.36, so a webhook gives pods their gate"
		;;
	esac
}

if [ -n "$MANIFESTS" ]; then
	say "$MANIFESTS: MANIFESTS says so"
else
	choose
fi
all=$(k kustomize "$MANIFESTS")
if [ -n "$IMAGE" ]; then
	all=$(printf '%s\n' "$all" | awk -v image="$IMAGE" '{ sub(/image: ensemble-autoscaler:.*/, "image: " image); print }')
fi

# What versions before PoolMachines called the machines that they simulated. Nothing real stands behind one, so that there is
# nothing to take over; it owns its node, which would go with it.
former=kwokmachines.autoscaling.flux-framework.org
refuse_former() {
	defined=$(k get customresourcedefinition "$former" --ignore-not-found -o name)
	[ -n "$defined" ] || return 0
	machines=$(k get "$former" -o name)
	[ -n "$machines" ] || return 0
	printf '%s\n' "There are $(printf '%s\n' "$machines" | grep -c .) KwokMachines, the simulated machines of an earlier version, and this version does not take them over.
Run make undeploy of the version that is installed, or delete the NodePools while it runs; then run this again.
$1" >&2
	exit 1
}

refuse_former "This run has changed nothing."

# only prints the objects of one step. The controller serves its webhooks, and takes away the gates that the policy gives
# to pods, so these wait until it runs.
only() {
	printf '%s\n---\n' "$all" | awk -v want="$1" '
		function end() {
			step = "provider"
			if (kind == "CustomResourceDefinition") step = "definitions"
			if (kind == "Deployment" && name == "controller") step = "controller"
			if (kind ~ /^(Validating|Mutating)WebhookConfiguration$/ || kind ~ /^MutatingAdmissionPolicy/) step = "admission"
			if (text != "" && step == want) printf "---\n%s", text
			text = kind = name = ""
		}
		/^---$/ { end(); next }
		/^kind: / { kind = $2 }
		/^  name: / && name == "" { name = $2 }
		{ text = text $0 "\n" }'
}

say "definitions"
only definitions | k apply -f -
only definitions | k wait --for=condition=Established --timeout="${TIMEOUT}s" -f -

say "provider, and the rights of both"
only provider | k apply -f -
k -n "$namespace" rollout status deployment/provider --timeout="${TIMEOUT}s"

say "controller"
only controller | k apply -f -
k -n "$namespace" rollout status deployment/controller --timeout="${TIMEOUT}s"

say "webhooks and policies of the controller"
only admission | k apply -f -

# Where the policy gives pods their gate, the webhook that did so before (overlays/pod-webhook) is in their way for nothing. API
# servers heed a new policy within a second or two; until then they go by the webhook.
case "$all" in *"kind: MutatingAdmissionPolicy"*)
	webhook=$(k get mutatingwebhookconfigurations ensemble-autoscaler-gates --ignore-not-found -o name)
	[ -z "$webhook" ] || { sleep 5 && k delete "$webhook" --ignore-not-found; }
	;;
esac

# Nobody makes any more of them: the provider that did is gone.
refuse_former "The new provider does not run beside them; everything else is installed."
if [ -n "$defined" ]; then
	say "the definition of KwokMachines, which PoolMachines have taken the place of"
	k delete customresourcedefinition "$former" --ignore-not-found --timeout="${TIMEOUT}s"
fi
