// Package size has the commands that change the size of a member: `kubectl ensemble grow`, `shrink` and `scale`. They write the desired
// size through the scale subresource of the EnsembleMember, as `kubectl scale` does, and can wait until the member has it. That of a group
// of pods, of a member with several, they write into the EnsembleMember itself: a scale subresource has one number.
package size

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/kinds"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cli"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// Change is what the commands print.
type Change struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Group is the group of pods that the sizes are of, empty for a member with one.
	Group string `json:"group,omitempty"`
	// From is the desired size of before, To that of now, in pods.
	From int32 `json:"from"`
	To   int32 `json:"to"`
	// Limited says by which field the change was limited, and empty where it was not.
	Limited string `json:"limited,omitempty"`
}

// options are those of a command.
type options struct {
	group   string
	wait    bool
	timeout time.Duration
}

func (o *options) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.group, "group", "", "the group of pods that is meant, of a member with several, as a JobSet has")
	cmd.Flags().BoolVar(&o.wait, "wait", false, "wait until the member has the size and all of its pods run, and show what it waits for")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 30*time.Minute, "how long --wait waits; what was asked for stays asked for after it")
}

// New returns the commands grow, shrink and scale.
func New(env *cli.Environment) []*cobra.Command {
	return []*cobra.Command{
		relative(env, "grow", "Ask for more pods of a member", 1),
		relative(env, "shrink", "Ask for fewer pods of a member", -1),
		scale(env),
	}
}

func relative(env *cli.Environment, name, short string, sign int64) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   name + " MEMBER N",
		Short: short,
		Long: short + `: N more or fewer than are desired now, within the minimum and maximum size of its workload. The nodes
come first: pods are added when nodes for all of them are Ready, and leave before their nodes do.`,
		Example:           fmt.Sprintf("  kubectl ensemble %s demo 4 --wait", name),
		GroupID:           cli.GroupWrite,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: env.Complete(cli.Members),
		RunE: func(cmd *cobra.Command, args []string) error {
			amount, err := strconv.ParseInt(args[1], 10, 32)
			if err != nil || amount < 1 {
				return fmt.Errorf("argument N is %q; it has to be a number of pods of at least 1", args[1])
			}
			named := kinds.Member(args[0])
			return run(cmd.Context(), env, named, &o, func(m *v1alpha1.EnsembleMember, g *v1alpha1.MemberGroup) (int32, string, error) {
				return bounded(m, g, sign*amount)
			})
		},
	}
	o.addFlags(cmd)
	return cmd
}

func scale(env *cli.Environment) *cobra.Command {
	var o options
	var size int32
	cmd := &cobra.Command{
		Use:   "scale MEMBER --size=N",
		Short: "Set how many pods of a member are desired",
		Long: `Set how many pods of a member are desired, within the minimum and maximum size of its workload. The nodes come first: pods are
added when nodes for all of them are Ready, and leave before their nodes do.`,
		Example:           "  kubectl ensemble scale demo --size=8 --wait",
		GroupID:           cli.GroupWrite,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: env.Complete(cli.Members),
		RunE: func(cmd *cobra.Command, args []string) error {
			if size < 1 {
				return fmt.Errorf("--size is %d; it has to be at least 1", size)
			}
			named := kinds.Member(args[0])
			return run(cmd.Context(), env, named, &o, func(m *v1alpha1.EnsembleMember, g *v1alpha1.MemberGroup) (int32, string, error) {
				words, of := workload(m, g)
				if size < g.MinSize || size > g.MaxSize {
					return 0, "", fmt.Errorf("--size is %d; it has to be from %d to %d, which are %s and %s of %s",
						size, g.MinSize, g.MaxSize, words.MinSize, words.MaxSize, of)
				}
				if g.Unit > 1 && size%g.Unit != 0 {
					return 0, "", fmt.Errorf("--size is %d; it has to be a multiple of %d: so many pods of %s come and go together", size, g.Unit, of)
				}
				return size, "", nil
			})
		},
	}
	cmd.Flags().Int32Var(&size, "size", 0, "the number of pods that are desired")
	_ = cmd.MarkFlagRequired("size") // It fails for a flag that does not exist; this one was added above.
	o.addFlags(cmd)
	return cmd
}

// bounded is the size of a group that a change leads to, within its bounds, with the field that limits it, as a request of a member is
// limited. What would change nothing is an error.
func bounded(m *v1alpha1.EnsembleMember, g *v1alpha1.MemberGroup, change int64) (size int32, limited string, err error) {
	words, of := workload(m, g)
	unit := int64(max(g.Unit, 1))
	wanted := int64(g.Size) + change
	switch {
	case change%unit == 0:
	case change > 0:
		return 0, "", fmt.Errorf("argument N is %d; it has to be a multiple of %d: so many pods of %s come together", change, unit, of)
	default:
		return 0, "", fmt.Errorf("argument N is %d; it has to be a multiple of %d: so many pods of %s leave together", -change, unit, of)
	}
	switch {
	case wanted > int64(g.MaxSize) && g.Size == g.MaxSize:
		return 0, "", fmt.Errorf("the desired size is %d already, which is %s of %s", g.Size, words.MaxSize, of)
	case wanted < int64(g.MinSize) && g.Size == g.MinSize:
		return 0, "", fmt.Errorf("the desired size is %d already, which is %s of %s", g.Size, words.MinSize, of)
	case wanted > int64(g.MaxSize):
		return g.MaxSize, words.MaxSize, nil
	case wanted < int64(g.MinSize):
		return g.MinSize, words.MinSize, nil
	}
	return int32(wanted), "", nil //nolint:gosec // Within the bounds, which are int32.
}

// workload is what the kind of a member is called, and its workload, or a group of that.
func workload(m *v1alpha1.EnsembleMember, g *v1alpha1.MemberGroup) (words *member.Words, of string) {
	if g.Name != "" {
		of = "group " + g.Name + " of "
	}
	kind := kinds.All().Of(m)
	if kind == nil {
		// A newer controller knows it.
		return &member.Words{MinSize: "spec.minSize", MaxSize: "spec.maxSize"}, of + "EnsembleMember " + m.Name
	}
	return kind.Words(), of + kind.Words().Kind + " " + member.TargetName(m)
}

// target is the desired size of a group of a member, with the field that limits it.
type target func(*v1alpha1.EnsembleMember, *v1alpha1.MemberGroup) (size int32, limited string, err error)

// run changes the desired size to what target says of the member, prints the change, and waits where that is wanted.
func run(ctx context.Context, env *cli.Environment, name string, o *options, target target) error {
	if o.timeout <= 0 {
		return fmt.Errorf("--timeout is %s; it has to be more than 0", o.timeout)
	}
	reader, err := env.Cluster()
	if err != nil {
		return err
	}
	namespace, err := env.Namespace()
	if err != nil {
		return err
	}
	change := &Change{Namespace: namespace, Name: name, Group: o.group}
	if err := write(ctx, reader, change, target); err != nil {
		return err
	}
	if err := env.Print(change, func(w io.Writer) error { return tell(w, change) }); err != nil {
		return err
	}
	if !o.wait {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	return await(ctx, env, reader, change, o.timeout)
}

// of is what the sizes of a change are of, as in "the desired size of group workers".
func (c *Change) of() string {
	if c.Group == "" {
		return ""
	}
	return " of group " + c.Group
}

func tell(w io.Writer, c *Change) error {
	text := fmt.Sprintf("ensemblemember/%s: the desired size%s is %d, it was %d", c.Name, c.of(), c.To, c.From)
	if c.From == c.To {
		text = fmt.Sprintf("ensemblemember/%s: the desired size%s is %d already", c.Name, c.of(), c.To)
	}
	if c.Limited != "" {
		text = fmt.Sprintf("ensemblemember/%s: limited to %d by %s; the desired size%s was %d", c.Name, c.To, c.Limited, c.of(), c.From)
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

// write writes the desired size. A size that somebody else writes meanwhile is counted from.
func write(ctx context.Context, reader *cluster.Reader, change *Change, target target) error {
	namespace, name := change.Namespace, change.Name
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		m, err := read(ctx, reader, namespace, name)
		if err != nil {
			return err
		}
		group, err := groupOf(m, change.Group)
		if err != nil {
			return err
		}
		size, limited, err := target(m, group)
		if err != nil {
			return err
		}
		change.From, change.To, change.Limited = group.Size, size, limited
		switch {
		case size == group.Size:
			return nil
		case change.Group != "":
			before := m.DeepCopy()
			v1alpha1.SetGroupSize(m, change.Group, size)
			return reader.Client.Patch(ctx, m, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
		}
		body := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: size}}
		body.Namespace, body.Name, body.ResourceVersion = namespace, name, m.ResourceVersion
		return reader.Client.SubResource("scale").Update(ctx, m, client.WithSubResourceBody(body))
	})
	switch {
	case !apierrors.IsForbidden(err):
		return err
	case change.Group != "":
		return fmt.Errorf("you have no right to patch %s in namespace %s: %w", cluster.ResourceEnsembleMembers, namespace, err)
	default:
		return fmt.Errorf("you have no right to update %s/scale in namespace %s: %w", cluster.ResourceEnsembleMembers, namespace, err)
	}
}

// groupOf is the group of a name. Of a member with several one has to be named.
func groupOf(m *v1alpha1.EnsembleMember, name string) (*v1alpha1.MemberGroup, error) {
	if group := v1alpha1.GroupOf(m, name); group != nil {
		return group, nil
	}
	if len(m.Spec.Groups) == 0 {
		return nil, fmt.Errorf("--group is %q; EnsembleMember %s has one group of pods, and --group has to be left out", name, m.Name)
	}
	names := make([]string, len(m.Spec.Groups))
	for i := range m.Spec.Groups {
		names[i] = m.Spec.Groups[i].Name
	}
	if name == "" {
		return nil, fmt.Errorf(
			"EnsembleMember %s has several groups of pods; --group has to be one of %s", m.Name, strings.Join(names, ", "),
		)
	}
	return nil, fmt.Errorf("--group is %q; it has to be one of %s, the groups of EnsembleMember %s", name, strings.Join(names, ", "), m.Name)
}

// read reads a member, which has to be there.
func read(ctx context.Context, reader *cluster.Reader, namespace, name string) (*v1alpha1.EnsembleMember, error) {
	m, err := reader.EnsembleMember(ctx, namespace, name)
	switch {
	case err != nil:
		return nil, err
	case m != nil:
		return m, nil
	}
	if gaps := reader.Gaps(); len(gaps) > 0 {
		return nil, fmt.Errorf("EnsembleMember %s cannot be read: %s", name, cluster.Describe(gaps))
	}
	return nil, fmt.Errorf("there is no EnsembleMember %s in namespace %s: a MiniCluster, or job/NAME, has one when it has the annotation %s "+
		"and the controller manages its kind (--kinds)", name, namespace, v1alpha1.AnnotationNodePools)
}
