package check

import (
	"fmt"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// port is one of a program, by its name and its number.
type port struct {
	name   string
	number int32
}

var portGRPC = port{"grpc", 8086}

// findNetwork looks at whether the NetworkPolicies let Cluster Autoscaler through to the provider.
func findNetwork(f *Facts, _ *Shipped) []Finding {
	if len(f.Provider) == 0 || !f.knows("networkpolicies.networking.k8s.io") || !f.knows("pods") {
		return nil
	}
	var out []Finding
	for _, a := range f.ours() {
		through, by := f.admits(a, &f.Provider[0], portGRPC)
		if through {
			continue
		}
		out = append(out, Finding{
			Error, "NotAdmitted", a.object(),
			fmt.Sprintf("NetworkPolicy %s does not let it through to port %s of the provider: its labels are %s, in namespace %s",
				strings.Join(by, ", "), portGRPC.name, labels.Set(a.Labels), a.Namespace),
			fmt.Sprintf(
				"give its pods the label %s=%s; for another namespace than %s use manifests/overlays/client-elsewhere", labelName, nameAutoscaler,
				f.Namespace,
			),
		})
	}
	return out
}

// admits reports whether a pod gets through to a port of another one, and names the policies that say so. Without one of them everything
// does.
func (f *Facts) admits(from *Autoscaler, to *Pod, port port) (through bool, by []string) {
	for i := range f.NetworkPolicies {
		policy := &f.NetworkPolicies[i]
		if policy.Namespace != to.Namespace || !restricts(policy) || !selects(&policy.Spec.PodSelector, to.Labels) {
			continue
		}
		by = append(by, policy.Namespace+"/"+policy.Name)
		for j := range policy.Spec.Ingress {
			rule := &policy.Spec.Ingress[j]
			through = through || (opens(rule, port) && f.admittedBy(rule, policy.Namespace, from))
		}
	}
	return through || len(by) == 0, by
}

// restricts reports whether a policy is about what comes in, as it is where it does not say what it is about.
func restricts(policy *networkingv1.NetworkPolicy) bool {
	return len(policy.Spec.PolicyTypes) == 0 || slices.Contains(policy.Spec.PolicyTypes, networkingv1.PolicyTypeIngress)
}

func opens(rule *networkingv1.NetworkPolicyIngressRule, port port) bool {
	for i := range rule.Ports {
		p := &rule.Ports[i]
		switch {
		case p.Port == nil:
			return true
		case p.Port.Type == intstr.String:
			if p.Port.StrVal == port.name {
				return true
			}
		case p.Port.IntVal == port.number, p.EndPort != nil && p.Port.IntVal <= port.number && port.number <= *p.EndPort:
			return true
		}
	}
	return len(rule.Ports) == 0
}

// admittedBy reports whether a rule of a policy admits a pod. Who comes from outside, by a block of addresses, is not looked at: a block
// may have the addresses of pods, so that it counts as one that admits.
func (f *Facts) admittedBy(rule *networkingv1.NetworkPolicyIngressRule, namespace string, from *Autoscaler) bool {
	for i := range rule.From {
		peer := &rule.From[i]
		switch {
		case peer.IPBlock != nil:
			return true
		case peer.NamespaceSelector == nil && from.Namespace != namespace:
		case peer.NamespaceSelector != nil && !selects(peer.NamespaceSelector, f.Namespaces[from.Namespace]):
		case peer.PodSelector != nil && !selects(peer.PodSelector, from.Labels):
		default:
			return true
		}
	}
	return len(rule.From) == 0
}

func selects(selector *metav1.LabelSelector, of map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(labels.Set(of))
}
