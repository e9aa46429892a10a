package ensemble

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	autoscaling "github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// maxNameLength leaves room for the number of a member and for what the Job controller adds to the names of its pods.
const maxNameLength = 48

// branchName is what git takes for a branch (git-check-ref-format), less what a shell would take for more than a word.
var branchName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./+-]*$`)

// findings are what there is to say about an Ensemble.
type findings struct {
	faults field.ErrorList
	// warnings tell what will not work as the user may expect.
	warnings []string
	// unused are the paths of fields that have no effect.
	unused []string
}

// examine looks at everything that an Ensemble says. defaultPools are for members that name none.
func examine(e *v1alpha1.Ensemble, defaultPools []string) *findings {
	f := &findings{}
	if problems := validation.IsDNS1123Label(e.Name); len(problems) > 0 || len(e.Name) > maxNameLength {
		f.faults = append(f.faults, field.Invalid(field.NewPath("metadata", "name"), e.Name,
			fmt.Sprintf(
				"must have at most %d characters, small letters, digits and '-': the names of its members begin with it, and those of their Services",
				maxNameLength,
			)))
	} else if len(validation.IsDNS1035Label(e.Name)) > 0 {
		f.warnings = append(
			f.warnings,
			fmt.Sprintf(
				"metadata.name: %q does not begin with a letter: before Kubernetes 1.36 the Services of its members cannot have such names, and no "+
					"pods come",
				e.Name,
			),
		)
	}
	if s := e.Spec.Sidecar; s != nil {
		at := field.NewPath("spec", "sidecar")
		for name, set := range map[string]bool{
			"image": s.Image != "", "imagePullPolicy": s.ImagePullPolicy != "", "pullAlways": s.PullAlways != nil, "port": s.Port != "",
			"workers": s.Workers != nil,
		} {
			if set {
				f.unused = append(f.unused, at.Child(name).String())
			}
		}
	}
	members := field.NewPath("spec", "members")
	if len(e.Spec.Members) == 0 {
		f.faults = append(f.faults, field.Required(members, "an Ensemble must have at least one member"))
	}
	for i := range e.Spec.Members {
		f.member(&e.Spec.Members[i], members.Index(i), defaultPools)
	}
	f.services(e, members)
	slices.Sort(f.unused)
	return f
}

func (f *findings) member(m *v1alpha1.Member, at *field.Path, defaultPools []string) {
	template, faults := minicluster.ParseTemplate(m.MiniCluster.Raw, at.Child("minicluster"))
	f.faults = append(f.faults, faults...)
	if m.Branch != "" && (!branchName.MatchString(m.Branch) || strings.Contains(m.Branch, "..") || strings.HasSuffix(m.Branch, "/") ||
		strings.HasSuffix(m.Branch, ".lock")) {
		f.faults = append(
			f.faults,
			field.Invalid(at.Child("branch"), m.Branch, "must be the name of a git branch, of letters, digits and the characters _ . / + -"),
		)
	}
	if len(m.NodePools) > 0 {
		if _, err := member.ParseNodePools(strings.Join(m.NodePools, ",")); err != nil {
			f.faults = append(f.faults, field.Invalid(at.Child("nodePools"), m.NodePools, "must be the names of NodePools, each once"))
		}
	}
	if share := m.PodsPerNode; share != nil && !member.IsPodsPerNode(share.String()) {
		f.faults = append(f.faults, field.Invalid(at.Child("podsPerNode"), share.String(), fmt.Sprintf("must be a number from 1 to %d, or %s",
			autoscaling.MaxPodsPerNode, autoscaling.PodsPerNodeAuto)))
	}
	if m.TopologyKey != "" && !member.IsTopologyKey(m.TopologyKey) {
		f.faults = append(
			f.faults,
			field.Invalid(at.Child("topologyKey"), m.TopologyKey, "must be the key of a label of nodes, such as "+corev1.LabelTopologyZone),
		)
	}
	file, faults := ensemblefile.Parse(m.Ensemble, at.Child("ensemble"))
	f.faults = append(f.faults, faults...)
	if template == nil {
		return
	}
	f.unused = append(f.unused, template.Unused...)
	if file == nil {
		return
	}
	resizes := file.Acts(ensemblefile.ActionGrow) || file.Acts(ensemblefile.ActionShrink)
	switch {
	case resizes && len(m.NodePools) == 0 && len(defaultPools) == 0:
		f.warnings = append(f.warnings, fmt.Sprintf("%s: rules grow or shrink, and without nodePools every such request is denied", at))
	case file.Acts(ensemblefile.ActionGrow) && template.FirstSize() == template.MaxSize:
		f.warnings = append(f.warnings, fmt.Sprintf("%s: rules grow, and the size is maxSize already (%d)", at, template.MaxSize))
	}
	for n := range file.Jobs {
		if nodes := int64(file.Jobs[n].Nodes); nodes > template.MaxSize {
			f.warnings = append(
				f.warnings,
				fmt.Sprintf("%s: job %q needs %d nodes, and maxSize is %d: it can never run", at, file.Jobs[n].Name, nodes, template.MaxSize),
			)
		}
	}
}

// services finds members that would have one headless Service: it leads to the pods of the first alone.
func (f *findings) services(e *v1alpha1.Ensemble, at *field.Path) {
	given := make([]string, len(e.Spec.Members))
	taken := map[string]int{}
	for i := range e.Spec.Members {
		if template, _ := minicluster.ParseTemplate(e.Spec.Members[i].MiniCluster.Raw, nil); template != nil {
			given[i] = template.HeadlessName
		}
		if given[i] == "" {
			taken[memberName(e, i)] = i
		}
	}
	for i, name := range given {
		if name == "" {
			continue
		}
		if other, is := taken[name]; is {
			f.faults = append(f.faults, field.Invalid(at.Index(i).Child("minicluster", "spec", "network", "headlessName"), name,
				fmt.Sprintf("must be another one than that of %s: the pods of a MiniCluster find each other by a Service of its own", at.Index(other))))
			continue
		}
		taken[name] = i
	}
}

// firstSizes finds members that would begin with another size than they say. before is nil for a new Ensemble. A member
// that was there before has another size by now, which the controller keeps at minSize or above, if it has nodePools.
func (f *findings) firstSizes(before, after *v1alpha1.Ensemble, defaultPools []string) {
	for i := range after.Spec.Members {
		m := &after.Spec.Members[i]
		if managed := len(m.NodePools)+len(defaultPools) > 0; managed && before != nil && i < len(before.Spec.Members) {
			continue
		}
		if template, faults := minicluster.ParseTemplate(m.MiniCluster.Raw, nil); len(faults) == 0 && template.Size < template.MinSize {
			f.faults = append(f.faults, field.Invalid(field.NewPath("spec", "members").Index(i).Child("minicluster", "spec", "size"), template.Size,
				fmt.Sprintf("must be at least minSize, which is %d", template.MinSize)))
		}
	}
}

// ValidateUpdate says what of an Ensemble has changed that cannot. What a MiniCluster is made of is fixed when it is
// created: the Flux Operator does not bring it to one that is there.
func ValidateUpdate(before, after *v1alpha1.Ensemble) field.ErrorList {
	var faults field.ErrorList
	for i := range min(len(before.Spec.Members), len(after.Spec.Members)) {
		at := field.NewPath("spec", "members").Index(i)
		for _, path := range changedParts(&before.Spec.Members[i], &after.Spec.Members[i]) {
			faults = append(faults, field.Forbidden(at.Child(path), advice(path)))
		}
	}
	return faults
}

// advice says what to do in place of changing a part of a member.
func advice(path string) string {
	switch path {
	case "minicluster.spec.size":
		return "it is the size that the member begins with; kubectl scale ensemblemember gives it another one"
	case "minicluster.spec.maxSize":
		return "the Flux Operator fixes it when the MiniCluster is created; take the member away from the end of the list, and add another one"
	default:
		return "it does not reach a MiniCluster that is there; take the member away from the end of the list, and add another one"
	}
}

// changedParts are the paths, below the member, of what cannot change and has.
func changedParts(before, after *v1alpha1.Member) []string {
	was, is := partsOf(before), partsOf(after)
	if was == nil || is == nil {
		// What could not be read has never become a MiniCluster.
		return nil
	}
	var changed []string
	for _, path := range slices.Sorted(maps.Keys(merged(was, is))) {
		if !bytes.Equal(was[path], is[path]) {
			changed = append(changed, path)
		}
	}
	return changed
}

func merged(a, b map[string][]byte) map[string][]byte {
	out := make(map[string][]byte, len(a)+len(b))
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

// partsOf are the parts of a member that cannot change once its MiniCluster is there, by their paths below it.
func partsOf(m *v1alpha1.Member) map[string][]byte {
	template, faults := minicluster.ParseTemplate(m.MiniCluster.Raw, nil)
	if len(faults) > 0 {
		return nil
	}
	parts, err := template.Parts()
	if err != nil {
		return nil
	}
	out := map[string][]byte{}
	for name, value := range parts {
		out["minicluster.spec."+name] = value
	}
	if m.Branch != "" {
		out["branch"] = []byte(m.Branch)
	}
	return out
}
