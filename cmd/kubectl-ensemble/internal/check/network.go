package check

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
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

// String names a port as a NetworkPolicy may.
func (p port) String() string {
	if p.name == "" {
		return strconv.Itoa(int(p.number))
	}
	return fmt.Sprintf("%s (%d)", p.name, p.number)
}

// findNetwork looks at whether the NetworkPolicies let Cluster Autoscaler through to the provider, at the ports that its Services name.
func findNetwork(f *Facts, _ *Shipped) []Finding {
	if len(f.Provider) == 0 || !f.knows("pods") {
		return nil
	}
	out := findServices(f)
	if !f.knows("networkpolicies.networking.k8s.io") {
		return out
	}
	for _, a := range f.ours() {
		var closed, policies []string
		for _, service := range a.services() {
			for _, p := range f.portsBehind(service) {
				if through, by := f.admits(a, &f.Provider[0], p); !through {
					closed, policies = append(closed, p.String()), append(policies, by...)
				}
			}
		}
		if len(closed) == 0 {
			continue
		}
		slices.Sort(policies)
		out = append(out, Finding{
			Error, "NotAdmitted", a.object(),
			fmt.Sprintf("NetworkPolicy %s does not let it through to port %s of the provider: its labels are %s, in namespace %s",
				strings.Join(slices.Compact(policies), ", "), strings.Join(closed, ", "), labels.Set(a.Labels), a.Namespace),
			fmt.Sprintf(
				"give its pods the label %s=%s; for another namespace than %s use manifests/overlays/client-elsewhere; a policy of your own has to "+
					"open the same ports", labelName, nameAutoscaler, f.Namespace,
			),
		})
	}
	return out
}

// services are those of the provider that Cluster Autoscaler calls.
func (a *Autoscaler) services() []string {
	if a.usesExpander() {
		return []string{serviceProvider, serviceExpander}
	}
	return []string{serviceProvider}
}

// findServices looks at whether the Services are there by which Cluster Autoscaler finds the provider.
func findServices(f *Facts) []Finding {
	if !f.knows("services") {
		return nil
	}
	missing := map[string]bool{}
	for _, a := range f.ours() {
		for _, service := range a.services() {
			missing[service] = len(f.Services[f.Namespace+"/"+service]) == 0
		}
	}
	var out []Finding
	for _, service := range slices.Sorted(maps.Keys(missing)) {
		if missing[service] {
			out = append(out, Finding{
				Error, "ServiceMissing", "Service " + f.Namespace + "/" + service,
				"it does not exist, and Cluster Autoscaler finds the provider by it", "make deploy",
			})
		}
	}
	return out
}

// shippedPorts are the ports of the Services in the manifests, and those of the container behind them.
var shippedPorts = map[string]port{serviceProvider: {"grpc", 8086}, serviceExpander: {"expander", 8087}}

// portOf is the first port of a Service of the provider, that of the manifests where the Service is not known.
func (f *Facts) portOf(service string) int32 {
	if ports := f.Services[f.Namespace+"/"+service]; len(ports) > 0 {
		return ports[0].Port
	}
	return shippedPorts[service].number
}

// portsBehind are the ports of the provider's pods that a Service of it leads to.
func (f *Facts) portsBehind(service string) []port {
	ports := f.Services[f.Namespace+"/"+service]
	if len(ports) == 0 {
		return []port{shippedPorts[service]}
	}
	out := make([]port, len(ports))
	for i := range ports {
		target := ports[i].TargetPort
		if target.Type == intstr.Int && target.IntVal == 0 {
			target.IntVal = ports[i].Port
		}
		out[i] = port{name: target.StrVal, number: target.IntVal}
		for _, c := range f.Provider[0].Ports {
			if (c.Name != "" && c.Name == target.StrVal) || (target.Type == intstr.Int && c.ContainerPort == target.IntVal) {
				out[i] = port{c.Name, c.ContainerPort}
			}
		}
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
			if port.name != "" && p.Port.StrVal == port.name {
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
