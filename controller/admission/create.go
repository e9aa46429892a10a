package admission

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/reading"
)

// ofChange are the annotations that are about changes of the size, and of no use where it cannot change. The growth policy is
// not among them: it concerns the first size too.
var ofChange = []string{v1alpha1.AnnotationRequestPolicy, v1alpha1.AnnotationGiveUpAfter}

// ExamineNew looks at a MiniCluster that is to be managed from its creation on, with what Prepare has added.
func ExamineNew(u *unstructured.Unstructured, pools *Pools, at Place) *Findings {
	f := &Findings{}
	annotations := u.GetAnnotations()
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		f.annotation(key, annotations[key], at)
	}
	draft, err := minicluster.ReadDraft(u)
	if err != nil {
		f.refuse(unreadable(err, at))
		return f
	}
	f.name(u, draft, at)
	f.containers(draft, at)
	f.sizes(draft, annotations, at)
	names := PoolsOf(u)
	if missing := pools.missing(names); missing != "" {
		f.refuse(field.Invalid(at.pools(), annotations[v1alpha1.AnnotationNodePools], missing))
	}
	f.evictable(draft, at)
	if len(f.Faults) > 0 {
		// What is wrong already would be told again in other words.
		return f
	}
	parsed, err := minicluster.Parse(u)
	if err != nil {
		f.refuse(unreadable(err, at))
		return f
	}
	f.allowed(names, pools, at)
	f.states(names, pools, at)
	f.overhead(draft, at)
	pod, added := limited(&parsed.Only().Pod, pools.Limits)
	f.limits(pod, pools.Limits, at)
	if len(f.Faults) == 0 {
		f.room(memberOf(parsed, pod, names, pools), draft, added, pools, at)
	}
	f.confinement(draft, names, at)
	f.selectors(draft, names, pools, at)
	return f
}

// memberOf is what the planner will know of a MiniCluster with such pods.
func memberOf(parsed *member.Workload, pod *corev1.PodSpec, names []string, pools *Pools) *plan.Member {
	return &plan.Member{
		NodePools: names, Size: parsed.Size(), Placement: parsed.Placement, PodsPerNode: plan.PodsPerNode(&parsed.PodsPerNode),
		PodRequests: reading.Requests(pod), Tolerations: pod.Tolerations, NamespaceLabels: pools.NamespaceLabels,
	}
}

// annotation judges the value of one annotation, if it is ours.
func (f *Findings) annotation(key, value string, at Place) {
	if !strings.HasPrefix(key, v1alpha1.Group+"/") {
		return
	}
	err := (&member.Workload{}).ReadAnnotations(map[string]string{key: value})
	if err == nil {
		return
	}
	// The path says which annotation it is, and the fault what its value is.
	why := strings.TrimPrefix(err.Error(), fmt.Sprintf("annotation %s is %q", key, value))
	f.refuse(field.Invalid(at.Annotation(key), value, strings.TrimLeft(why, ":; ")))
}

// name judges the name, which its pods carry in a label.
func (f *Findings) name(u *unstructured.Unstructured, draft *minicluster.Draft, at Place) {
	if u.GetGenerateName() != "" && draft.PodLabels[v1alpha1.LabelMember] != u.GetName() {
		f.refuse(field.Forbidden(at.Metadata.Child("generateName"),
			"a MiniCluster that is to be managed needs metadata.name: its pods carry the name in a label, which is written before the API server "+
				"makes one up"))
		return
	}
	f.named(u.GetName(), max(draft.Size, draft.MaxSize), draft, at)
}

// sizes judges what the Flux Operator ignores without a sign, and what keeps a MiniCluster from growing.
func (f *Findings) sizes(draft *minicluster.Draft, annotations map[string]string, at Place) {
	size, minSize, maxSize := at.Spec.Child("size"), at.Spec.Child("minSize"), at.Spec.Child("maxSize")
	switch {
	case draft.Size < 1:
		f.refuse(field.Invalid(size, draft.Size, "must be at least 1"+ignored))
	case draft.MaxSize != 0 && draft.Size > draft.MaxSize:
		f.refuse(field.Invalid(size, draft.Size, fmt.Sprintf("must be at most maxSize, which is %d"+ignored, draft.MaxSize)))
	}
	switch {
	case draft.MaxSize != 0 && draft.MinSize > draft.MaxSize:
		f.refuse(field.Invalid(minSize, draft.MinSize, fmt.Sprintf("must be at most maxSize, which is %d"+ignored, draft.MaxSize)))
	case draft.Size >= 1 && draft.MinSize > draft.Size:
		f.refuse(field.Invalid(size, draft.Size, fmt.Sprintf("must be at least minSize, which is %d"+ignored, draft.MinSize)))
	}
	if draft.MinSize == 0 && max(draft.Size, draft.MaxSize) > 1 {
		f.warn(minSize, "is not set: requests may shrink the MiniCluster to 1")
	}
	if draft.MaxSize != 0 {
		return
	}
	// Where it can shrink it can also grow back, and what is said of that is of use. Where it cannot, growth is all that can be
	// meant, and every request would be DENIED.
	first := max(draft.Size, 1)
	for _, key := range ofChange {
		if _, has := annotations[key]; has && max(draft.MinSize, 1) >= first {
			f.refuse(field.Required(maxSize, fmt.Sprintf(
				"%s is about changes of the size, which is always %d: it cannot shrink, and without maxSize the Flux Operator lets no MiniCluster "+
					"grow above its first size",
				at.Annotation(key), first)))
			return
		}
	}
	f.cannotGrow(first, at)
}

// cannotGrow warns of a MiniCluster without maxSize.
func (f *Findings) cannotGrow(maximum int32, at Place) {
	f.warn(
		at.Spec.Child("maxSize"), "is not set: the MiniCluster cannot grow above its first size, %d, and requests to grow will be DENIED",
		maximum,
	)
}

// evictable warns of pods that Cluster Autoscaler may move.
func (f *Findings) evictable(draft *minicluster.Draft, at Place) {
	if value, said := draft.PodAnnotations[v1alpha1.AnnotationSafeToEvict]; said && value != notToBeEvicted {
		f.warn(at.pod("annotations").Key(v1alpha1.AnnotationSafeToEvict),
			"is %q: Cluster Autoscaler may delete running brokers to empty a node; %q keeps them", value, notToBeEvicted)
	}
}

// states warns of NodePools that grant nothing at the moment.
func (f *Findings) states(names []string, pools *Pools, at Place) {
	for _, name := range names {
		switch pool := pools.Named[name]; {
		case pool == nil:
		case pool.DeletionTimestamp != nil:
			f.warn(at.pools(), "NodePool %s is being deleted and grants no more nodes", name)
		case pool.Spec.Paused:
			f.warn(at.pools(), "NodePool %s is paused and grants no nodes until spec.paused is false", name)
		}
	}
}

// allowed judges whether MiniClusters of the namespace may name NodePools.
func (f *Findings) allowed(names []string, pools *Pools, at Place) {
	for _, name := range names {
		pool := pools.Named[name]
		if pool == nil || pool.Spec.AllowedNamespaces == nil {
			continue
		}
		selector := reading.Labels(pool.Spec.AllowedNamespaces)
		if selector.Matches(pools.Namespace, pools.NamespaceLabels) {
			continue
		}
		f.refuse(field.Forbidden(at.pools(), fmt.Sprintf("NodePool %s may be named only in namespaces with the labels %s (its "+
			"spec.allowedNamespaces), and namespace %s has %s",
			name, selector, pools.Namespace, asked(pool.Spec.AllowedNamespaces, pools.NamespaceLabels))))
	}
}

// asked are, of the labels of a namespace, those that a selector asks for.
func asked(selector *metav1.LabelSelector, labels map[string]string) string {
	keys := slices.Collect(maps.Keys(selector.MatchLabels))
	for i := range selector.MatchExpressions {
		keys = append(keys, selector.MatchExpressions[i].Key)
	}
	slices.Sort(keys)
	var there []string
	for _, key := range slices.Compact(keys) {
		if value, has := labels[key]; has {
			there = append(there, key+"="+value)
		}
	}
	if len(there) == 0 {
		return "none of these"
	}
	return strings.Join(there, ",")
}

// poolsOf is what the planner knows of NodePools that has a bearing on what fits.
func poolsOf(names []string, pools *Pools) []plan.Pool {
	all := make([]plan.Pool, len(names))
	for i, name := range names {
		all[i] = reading.Pool(pools.Named[name], pools.DaemonSets)
	}
	return all
}

// room judges whether a pod fits a node, and whether there can ever be as many nodes as the first size wants. added is what the
// namespace adds to pods.
func (f *Findings) room(member *plan.Member, draft *minicluster.Draft, added []string, pools *Pools, at Place) {
	all := poolsOf(member.NodePools, pools)
	if !f.fits(member, all, because(added), at) {
		return
	}
	most := plan.Holds(member, all)
	switch {
	case int64(member.Size) > most:
		f.refuse(field.Invalid(at.Spec.Child("size"), member.Size, fmt.Sprintf("must be at most %s", holding(member, all, most))))
	case int64(draft.MaxSize) > most:
		f.warn(
			at.Spec.Child("maxSize"), "%d is more than %s: a growth above that waits until one is larger", draft.MaxSize,
			holding(member, all, most),
		)
	}
}

// because tells what the namespace adds to pods that are too large.
func because(added []string) string {
	if len(added) == 0 {
		return ""
	}
	return " (" + strings.Join(added, "; ") + ")"
}

// fits judges whether a pod fits a node of the NodePools that a member has, or of those of them that it gets, and reports
// whether there may be one. advice is what to do about pods that are too large alone.
func (f *Findings) fits(member *plan.Member, pools []plan.Pool, advice string, at Place) bool {
	var tooLarge []string
	for i := range pools {
		if why := plan.TooLarge(member, pools[i]); why != "" {
			tooLarge = append(tooLarge, why)
		}
	}
	if len(tooLarge) == len(member.NodePools) {
		path := at.Spec.Child("containers")
		if fitsAlone(member, pools) {
			path, advice = at.Annotation(v1alpha1.AnnotationPodsPerNode), ""
		}
		f.refuse(field.Invalid(path, shareOf(member), strings.Join(tooLarge, "; ")+": no node of its NodePools is large enough"+advice))
		return false
	}
	for _, why := range tooLarge {
		f.warn(at.pools(), "%s: none of these nodes will be used", why)
	}
	return true
}

// fitsAlone is whether one pod fits a node, so that it is their number on a node that makes them too large.
func fitsAlone(member *plan.Member, pools []plan.Pool) bool {
	one := *member
	one.PodsPerNode = 1
	return slices.ContainsFunc(pools, func(p plan.Pool) bool { return plan.TooLarge(&one, p) == "" })
}

// shareOf is the number of pods that are to share a node where that is the fault, and nothing where it is not.
func shareOf(member *plan.Member) any {
	if member.PodsPerNode > 1 {
		return intstr.FromInt32(member.PodsPerNode)
	}
	return field.OmitValueType{}
}

// holding says what NodePools hold at the most, and why.
func holding(member *plan.Member, pools []plan.Pool, most int64) string {
	parts := make([]string, len(pools))
	for i := range pools {
		parts[i] = fmt.Sprintf("%s has maxSize %d", pools[i].Name, pools[i].MaxSize)
		if plan.TooLarge(member, pools[i]) != "" {
			parts[i] = fmt.Sprintf("a pod does not fit %s", pools[i].Name)
		}
	}
	text := fmt.Sprintf("what its NodePools hold, %d (%s", most, strings.Join(parts, ", "))
	if member.PodsPerNode != 1 {
		text += ", with the pods that share a node"
	}
	if member.Placement == v1alpha1.PlacementSingle && len(pools) > 1 {
		text += ", and placement Single takes all from one of them"
	}
	return text + ")"
}

// confinement judges what the user says of the label that our nodes have.
func (f *Findings) confinement(draft *minicluster.Draft, names []string, at Place) {
	if one, has := draft.NodeSelector[v1alpha1.LabelNodePool]; has {
		f.confined(at.pod("nodeSelector").Key(v1alpha1.LabelNodePool), one, []string{one}, names)
	}
	list, has := draft.NodeAffinity[v1alpha1.LabelNodePool]
	if has && !draft.AffinityDisabled {
		f.confined(at.pod("nodeAffinity").Key(v1alpha1.LabelNodePool), list, list, names)
	}
}

func (f *Findings) confined(path *field.Path, said any, list, names []string) {
	left := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(list, name) })
	outside := slices.DeleteFunc(slices.Clone(list), func(name string) bool { return slices.Contains(names, name) })
	switch {
	case len(left) == len(names):
		f.refuse(field.Invalid(path, said, fmt.Sprintf("must be among the NodePools that the nodes come from: %s", strings.Join(names, ", "))))
	case len(left) > 0:
		f.warn(path, "leaves out %s: no pod can go there, though nodes may be reserved there", strings.Join(left, ", "))
	case len(outside) > 0:
		f.warn(path, "has %s, and no nodes are reserved there", strings.Join(outside, ", "))
	}
}

// selectors judges what the user says of other labels of nodes.
func (f *Findings) selectors(draft *minicluster.Draft, names []string, pools *Pools, at Place) {
	for _, s := range selectorsOf(draft, at) {
		if s.key == corev1.LabelHostname {
			f.refuse(field.Forbidden(s.at, "its nodes do not exist yet, and the controller gives each pod one of them"))
			continue
		}
		switch without, why := s.without(names, pools); {
		case len(without) == len(names):
			f.refuse(field.Invalid(s.at, s.said, fmt.Sprintf("no node of its NodePools can match, by their templates: %s", strings.Join(why, ", "))))
		case len(without) > 0:
			f.warn(s.at, "no node of %s matches, though some may be reserved: %s", strings.Join(without, ", "), strings.Join(why, ", "))
		}
	}
}

// selector is a label by which pods choose their nodes, with the values that will do.
type selector struct {
	at     *field.Path
	key    string
	said   any
	values []string
}

// selectorsOf are those of a MiniCluster, but for the label that our nodes have.
func selectorsOf(draft *minicluster.Draft, at Place) []selector {
	var all []selector
	for _, key := range slices.Sorted(maps.Keys(draft.NodeSelector)) {
		all = append(all, selector{at.pod("nodeSelector").Key(key), key, draft.NodeSelector[key], []string{draft.NodeSelector[key]}})
	}
	if !draft.AffinityDisabled {
		for _, key := range slices.Sorted(maps.Keys(draft.NodeAffinity)) {
			all = append(all, selector{at.pod("nodeAffinity").Key(key), key, draft.NodeAffinity[key], draft.NodeAffinity[key]})
		}
	}
	return slices.DeleteFunc(all, func(s selector) bool { return s.key == v1alpha1.LabelNodePool })
}

// without are the NodePools whose nodes do not have the label, by their templates, and why in words.
func (s *selector) without(names []string, pools *Pools) (without, why []string) {
	for _, name := range names {
		value, has := reading.Pool(pools.Named[name], nil).Labels[s.key]
		switch {
		case has && slices.Contains(s.values, value):
			continue
		case has:
			why = append(why, fmt.Sprintf("nodes of %s have %q", name, value))
		default:
			why = append(why, fmt.Sprintf("those of %s do not have the label", name))
		}
		without = append(without, name)
	}
	return without, why
}
