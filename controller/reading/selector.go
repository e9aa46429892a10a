package reading

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// nodeSelector selects nodes as the scheduler does for a pod.
type nodeSelector struct {
	required nodeaffinity.RequiredNodeAffinity
	text     string
}

// Selects are the nodes that a pod can go to by its node selector and its required node affinity; nil for all.
func Selects(selector map[string]string, affinity *corev1.Affinity) plan.Selector {
	required := requiredOf(affinity)
	if len(selector) == 0 && required == nil {
		return nil
	}
	return &nodeSelector{required: nodeaffinity.NewRequiredNodeAffinity(selector, affinity), text: textOf(selector, required)}
}

// requiredOf is the part of an affinity that nodes have to meet, nil for none.
func requiredOf(affinity *corev1.Affinity) *corev1.NodeSelector {
	if affinity == nil || affinity.NodeAffinity == nil {
		return nil
	}
	return affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
}

// nameless is a name that no node can have.
const nameless = "/"

// Matches implements plan.Selector.
func (s *nodeSelector) Matches(name string, labels map[string]string) bool {
	if name == "" {
		// Without a name, selectors of names would match anything.
		name = nameless
	}
	// What cannot be parsed matches nothing, as for the scheduler.
	matches, err := s.required.Match(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
	return matches && err == nil
}

// String implements plan.Selector.
func (s *nodeSelector) String() string { return s.text }

func textOf(selector map[string]string, required *corev1.NodeSelector) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		all = append(all, key+"="+selector[key])
	}
	if required == nil {
		return strings.Join(all, ",")
	}
	terms := make([]string, len(required.NodeSelectorTerms))
	for i := range required.NodeSelectorTerms {
		terms[i] = termText(&required.NodeSelectorTerms[i])
	}
	switch {
	case len(terms) == 1 && terms[0] != "":
		return strings.Join(append(all, terms[0]), ",")
	case len(all) == 0:
		return "(" + strings.Join(terms, ") or (") + ")"
	default:
		return strings.Join(all, ",") + " and ((" + strings.Join(terms, ") or (") + "))"
	}
}

func termText(term *corev1.NodeSelectorTerm) string {
	var all []string
	for _, r := range slices.Concat(term.MatchExpressions, term.MatchFields) {
		all = append(all, requirementText(&r))
	}
	return strings.Join(all, ",")
}

func requirementText(r *corev1.NodeSelectorRequirement) string {
	switch values := strings.Join(r.Values, ","); r.Operator {
	case corev1.NodeSelectorOpExists:
		return r.Key
	case corev1.NodeSelectorOpDoesNotExist:
		return "!" + r.Key
	case corev1.NodeSelectorOpGt:
		return r.Key + ">" + values
	case corev1.NodeSelectorOpLt:
		return r.Key + "<" + values
	case corev1.NodeSelectorOpIn:
		return r.Key + " in (" + values + ")"
	case corev1.NodeSelectorOpNotIn:
		return r.Key + " notin (" + values + ")"
	default:
		return fmt.Sprintf("%s %s (%s)", r.Key, r.Operator, values)
	}
}

// all selects what each of several selects.
type all []plan.Selector

// All selects what each of some selectors selects; nil for all.
func All(selectors ...plan.Selector) plan.Selector {
	var some all
	for _, s := range selectors {
		if s != nil {
			some = append(some, s)
		}
	}
	switch len(some) {
	case 0:
		return nil
	case 1:
		return some[0]
	default:
		return some
	}
}

// Matches implements plan.Selector.
func (s all) Matches(name string, labels map[string]string) bool {
	return !slices.ContainsFunc(s, func(one plan.Selector) bool { return !one.Matches(name, labels) })
}

// String implements plan.Selector.
func (s all) String() string {
	texts := make([]string, len(s))
	for i := range s {
		texts[i] = s[i].String()
	}
	return strings.Join(texts, " and ")
}

// labelSelector selects things by their labels alone.
type labelSelector struct {
	parsed labels.Selector
	text   string
}

// Labels is a label selector of the API; nil for all. One that cannot be parsed selects nothing.
func Labels(selector *metav1.LabelSelector) plan.Selector {
	if selector == nil {
		return nil
	}
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return &labelSelector{parsed: labels.Nothing(), text: metav1.FormatLabelSelector(selector)}
	}
	return &labelSelector{parsed: parsed, text: parsed.String()}
}

// Matches implements plan.Selector.
func (s *labelSelector) Matches(_ string, set map[string]string) bool {
	return s.parsed.Matches(labels.Set(set))
}

// String implements plan.Selector.
func (s *labelSelector) String() string { return s.text }
