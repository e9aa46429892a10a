package member

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Group is a group of pods of a workload that are alike: one size and one shape. All groups of a workload grow as one.
type Group struct {
	// Name tells the groups of a workload apart. Of a workload with one group nobody reads it.
	Name string
	// Size, MinSize and MaxSize are numbers of pods, each at least 1.
	Size, MinSize, MaxSize int32
	// Unit is how many pods come and go together, as those of one replica do; 0 is 1. Sizes are multiples of it. Where several Jobs make the
	// pods of a group, it is their number.
	Unit int32

	// Pod is what one pod needs of a node, as the object lets expect it: containers with their resources, and nothing else of them, node
	// selector, affinity and tolerations.
	Pod corev1.PodSpec
	// PodRequests and Tolerations are those of that pod.
	PodRequests corev1.ResourceList
	Tolerations []corev1.Toleration
}

// Sizes are the sizes of the groups of a workload, in pods, by their names.
type Sizes map[string]int32

// String is the one size, or those of several groups as in "leader=1,workers=4".
func (s Sizes) String() string {
	parts := make([]string, 0, len(s))
	for _, name := range slices.Sorted(maps.Keys(s)) {
		size := strconv.Itoa(int(s[name]))
		if len(s) == 1 {
			return size
		}
		parts = append(parts, name+"="+size)
	}
	return strings.Join(parts, ",")
}

// Same reports whether others are the same sizes. The name of an only group is read by nobody.
func (s Sizes) Same(others Sizes) bool {
	if len(s) == 1 && len(others) == 1 {
		return s.Sum() == others.Sum()
	}
	return maps.Equal(s, others)
}

// Sum is the number of pods of all groups.
func (s Sizes) Sum() int32 {
	var sum int32
	for _, size := range s {
		sum += size
	}
	return sum
}

// ParseSizes reads what String has written. An error says what would be right.
func ParseSizes(text string) (Sizes, error) {
	sizes := Sizes{}
	parts := strings.Split(text, ",")
	for _, part := range parts {
		name, number, named := strings.Cut(part, "=")
		if !named {
			name, number = "", part
		}
		size, err := strconv.ParseInt(number, 10, 32)
		_, twice := sizes[name]
		if err != nil || size < 1 || twice || (named && name == "") || (!named && len(parts) > 1) {
			return nil, fmt.Errorf("%q is no size of at least 1, nor sizes of groups such as leader=1,workers=4", text)
		}
		sizes[name] = int32(size)
	}
	return sizes, nil
}

// Field is a field of an object, and what it is to have.
type Field struct {
	// Path is a JSON pointer (RFC 6901), such as /spec/size. Its last part is the name of a field; those before may be positions in lists.
	Path  string
	Value any
}

// Change is what becomes of the groups of a workload in one write.
type Change struct {
	// Sizes are those of all groups, of those too that stay as they are.
	Sizes Sizes
	// Leave are the names of the pods that are to leave, by their groups, where the pods of a kind leave by name.
	Leave map[string][]string
}

// CheckGroups says what keeps the groups of a workload from being those of a member, nil for nothing.
func (w *Workload) CheckGroups() error {
	if len(w.Groups) == 1 {
		return nil
	}
	if n := len(w.Groups); n == 0 || n > v1alpha1.MaxGroups {
		return fmt.Errorf("the %s has %d groups of pods; it has to have from 1 to %d", w.Kind.Words().Kind, n, v1alpha1.MaxGroups)
	}
	seen := map[string]bool{}
	for i := range w.Groups {
		g := &w.Groups[i]
		switch {
		case len(validation.IsDNS1123Label(g.Name)) > 0:
			return fmt.Errorf("a group of pods is called %q; its name has to be a DNS label of at most 63 characters", g.Name)
		case seen[g.Name]:
			return fmt.Errorf("two groups of pods are called %q; each has to have a name of its own", g.Name)
		case g.MaxSize > v1alpha1.MaxGroupSize:
			return fmt.Errorf("the maximum size of group %s is %d; it has to be at most %d", g.Name, g.MaxSize, v1alpha1.MaxGroupSize)
		}
		seen[g.Name] = true
	}
	return nil
}

// To is a change of sizes alone.
func To(sizes Sizes) *Change { return &Change{Sizes: sizes} }

// Of is the size of a group of a workload after the change.
func (c *Change) Of(w *Workload, group *Group) int32 {
	if len(w.Groups) == 1 {
		return c.Sizes.Sum()
	}
	if size, has := c.Sizes[group.Name]; has {
		return size
	}
	return group.Size
}

// Group is the group of a name, nil for none. The name of an only group is read by nobody.
func (w *Workload) Group(name string) *Group {
	if len(w.Groups) == 1 {
		return &w.Groups[0]
	}
	for i := range w.Groups {
		if w.Groups[i].Name == name {
			return &w.Groups[i]
		}
	}
	return nil
}

// Only is the one group of a workload of a kind that has no others.
func (w *Workload) Only() *Group { return &w.Groups[0] }

// Sizes are those of its groups.
func (w *Workload) Sizes() Sizes {
	sizes := make(Sizes, len(w.Groups))
	for i := range w.Groups {
		sizes[w.Groups[i].Name] = w.Groups[i].Size
	}
	return sizes
}

// Size is the number of pods of all groups.
func (w *Workload) Size() int32 { return w.sum(func(g *Group) int32 { return g.Size }) }

// MinSize and MaxSize are the sums of what all groups may have.
func (w *Workload) MinSize() int32 { return w.sum(func(g *Group) int32 { return g.MinSize }) }

// MaxSize is the sum of what all groups may have.
func (w *Workload) MaxSize() int32 { return w.sum(func(g *Group) int32 { return g.MaxSize }) }

func (w *Workload) sum(of func(*Group) int32) int32 {
	var sum int32
	for i := range w.Groups {
		sum += of(&w.Groups[i])
	}
	return sum
}
