package planned

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/kinds"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cli"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/job"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/jobset"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/resize"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/whatif"
)

// New is the command plan.
func New(env *cli.Environment) *cobra.Command {
	o := &options{}
	cmd := &cobra.Command{
		Use:   "plan MEMBER (--grow N | --shrink N | --size N) | plan --filename FILE",
		Short: "Say what would become of another size, and change nothing",
		Long: `Say what would become of another size of a member, or of a MiniCluster or Indexed Job that does not exist yet.

The controller's own planner decides on the live objects with the changed size: which pools grant nodes, what is refused and why, what the
nodes cost for an hour, and how long they take, as the machines of each pool have taken. Nothing is changed, nothing is reserved: another
member that asks the controller in the meantime may get the nodes.`,
		Example: `  kubectl ensemble plan lammps --grow 6
  kubectl ensemble plan --namespace team-a lammps --size 12 --output yaml
  kubectl ensemble plan --filename minicluster.yaml`,
		GroupID: cli.GroupRead,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd, env, args)
		},
	}
	o.addFlags(cmd.Flags())
	return cmd
}

// options are the flags of the command.
type options struct {
	grow, shrink, size int32
	filename           string
}

func (o *options) addFlags(flags *pflag.FlagSet) {
	flags.Int32Var(&o.grow, "grow", 0, "by how many pods the member is to grow")
	flags.Int32Var(&o.shrink, "shrink", 0, "by how many pods the member is to shrink")
	flags.Int32Var(&o.size, "size", 0, "the size that the member is to have")
	flags.StringVarP(&o.filename, "filename", "f", "", "a file with a MiniCluster or Job that does not exist yet; - for standard input")
}

// change is what the flags ask for.
func (o *options) change(args []string) (whatif.Change, error) {
	set := 0
	for _, flag := range []struct {
		name  string
		value int32
	}{{"grow", o.grow}, {"shrink", o.shrink}, {"size", o.size}} {
		if flag.value < 0 {
			return whatif.Change{}, fmt.Errorf("--%s is %d; it has to be at least 1", flag.name, flag.value)
		}
		if flag.value > 0 {
			set++
		}
	}
	switch {
	case o.filename != "" && (len(args) > 0 || set > 0):
		return whatif.Change{}, errors.New("--filename tells the member and its size; it goes with no MEMBER, --grow, --shrink or --size")
	case o.filename == "" && len(args) == 0:
		return whatif.Change{}, errors.New("MEMBER is missing: name a member, or a file with --filename")
	case o.filename == "" && set != 1:
		return whatif.Change{}, fmt.Errorf("%d of --grow, --shrink and --size are given; it has to be one of them", set)
	}
	return whatif.Change{Grow: o.grow, Shrink: o.shrink, To: o.size}, nil
}

func (o *options) run(cmd *cobra.Command, env *cli.Environment, args []string) error {
	change, err := o.change(args)
	if err != nil {
		return err
	}
	namespace, err := env.Namespace()
	if err != nil {
		return err
	}
	reader, err := env.Cluster()
	if err != nil {
		return err
	}
	var answer *whatif.Answer
	if o.filename != "" {
		var object *unstructured.Unstructured
		if object, err = read(o.filename, env.Streams.In); err != nil {
			return err
		}
		if object.GetNamespace() == "" {
			object.SetNamespace(namespace)
		}
		answer, err = OfManifest(cmd.Context(), reader.Client, clock.RealClock{}, object)
	} else {
		named := kinds.Member(args[0])
		key := types.NamespacedName{Namespace: namespace, Name: named}
		if in, name, is := strings.Cut(named, "/"); is {
			key = types.NamespacedName{Namespace: in, Name: name}
		}
		answer, err = OfMember(cmd.Context(), reader.Client, clock.RealClock{}, key, change)
	}
	if err != nil {
		return err
	}
	return env.Print(answer, func(w io.Writer) error { return whatif.Write(w, answer, env.Wide()) })
}

// read reads the workload of a file.
func read(filename string, stdin io.Reader) (*unstructured.Unstructured, error) {
	var text []byte
	var err error
	if filename == "-" {
		text, err = io.ReadAll(stdin)
	} else {
		text, err = os.ReadFile(filename)
	}
	if err != nil {
		return nil, fmt.Errorf("--filename: %w", err)
	}
	var object *unstructured.Unstructured
	found := 0
	var names []string
	for _, kind := range kinds.All() {
		names = append(names, kind.Words().Kinds)
	}
	for document := range strings.SplitSeq(string(text), "\n---") {
		other := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &other.Object); err != nil {
			return nil, fmt.Errorf("%s: %w", filename, err)
		}
		if kindOf(other) != nil {
			object, found = other, found+1
		}
	}
	if found != 1 {
		return nil, fmt.Errorf("%s has %d %s; it has to have one", filename, found, strings.Join(names, " and "))
	}
	return object, nil
}

// kindOf is the kind of workload that an object is of, nil for none.
func kindOf(object *unstructured.Unstructured) member.Kind {
	for _, kind := range kinds.All() {
		if kind.GroupVersionKind() == object.GroupVersionKind() {
			return kind
		}
	}
	return nil
}

// OfMember reads the cluster and answers for a member with another size. It writes nothing.
func OfMember(
	ctx context.Context, reader client.Reader, clock clock.PassiveClock, key types.NamespacedName, change whatif.Change,
) (*whatif.Answer, error) {
	g, err := gather(ctx, reader, key.Namespace)
	if err != nil {
		return nil, err
	}
	snapshot, err := g.snapshot(ctx, clock)
	if err != nil {
		return nil, err
	}
	w := g.world(snapshot.Observed(), clock)
	if err := g.decided(key); err != nil {
		return nil, err
	}
	minSize, maxSize, _ := snapshot.Bounds(key)
	answer, err := w.Ask(key, change, whatif.Bounds{Min: minSize, Max: maxSize})
	if err != nil {
		return nil, err
	}
	answer.MissingRights = g.missing
	return answer, nil
}

// decided is an error for a member of a kind that the controller was not told to manage: nobody decides for it.
func (g *gathered) decided(key types.NamespacedName) error {
	for i := range g.members.Items {
		m := &g.members.Items[i]
		ready := meta.FindStatusCondition(m.Status.Conditions, v1alpha1.ConditionReady)
		if client.ObjectKeyFromObject(m) == key && ready != nil && ready.Reason == v1alpha1.ReasonKindNotManaged {
			return fmt.Errorf("EnsembleMember %s: %s", key, ready.Message)
		}
	}
	return nil
}

// OfManifest reads the cluster and answers for a workload that does not exist yet. It writes nothing.
func OfManifest(
	ctx context.Context, reader client.Reader, clock clock.PassiveClock, object *unstructured.Unstructured,
) (*whatif.Answer, error) {
	kind := kindOf(object)
	if kind == nil {
		return nil, fmt.Errorf("%s %s is no kind of workload that may be a member", object.GetKind(), object.GetName())
	}
	words := kind.Words()
	if !member.Managed(object) {
		return nil, fmt.Errorf("metadata.annotations of %s %s has no %s: it names the NodePools, and without it the %s is not managed",
			words.Kind, object.GetName(), v1alpha1.AnnotationNodePools, words.Kind)
	}
	completed, err := complete(object)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", words.Kind, object.GetName(), err)
	}
	g, err := gather(ctx, reader, object.GetNamespace())
	if err != nil {
		return nil, err
	}
	if g.has(kind, client.ObjectKeyFromObject(object)) {
		return nil, fmt.Errorf("%s %s/%s exists already; ask with: kubectl ensemble plan %s --namespace %s --size N", words.Kind,
			object.GetNamespace(), object.GetName(), member.Name(kind, object.GetName()), object.GetNamespace())
	}
	snapshot, err := g.snapshot(ctx, clock)
	if err != nil {
		return nil, err
	}
	observed, err := snapshot.With(kind, completed)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", words.Kind, object.GetName(), err)
	}
	answer := g.world(observed, clock).AskNew()
	answer.MissingRights = g.missing
	return answer, nil
}

// complete completes an object as admission would.
func complete(object *unstructured.Unstructured) (client.Object, error) {
	marked := object.DeepCopy()
	switch object.GroupVersionKind() {
	case job.GroupVersionKind:
		before, err := job.Read(object)
		if err != nil {
			return nil, err
		}
		if err := job.MarksOfNew(before).AddTo(marked); err != nil {
			return nil, err
		}
		return job.Read(marked)
	case jobset.GroupVersionKind:
		before, err := jobset.Read(object)
		if err != nil {
			return nil, err
		}
		marks := before.MarksOfNew()
		return marked, marks.AddTo(marked)
	default:
		return object, nil
	}
}

// has reports whether there is an object of a kind.
func (g *gathered) has(kind member.Kind, key types.NamespacedName) bool {
	if kind.GroupVersionKind() == job.GroupVersionKind {
		return slices.ContainsFunc(g.jobs.Items, func(j batchv1.Job) bool { return client.ObjectKeyFromObject(&j) == key })
	}
	items := g.clusters.Items
	if kind.GroupVersionKind() == jobset.GroupVersionKind {
		items = g.jobSets.Items
	}
	return slices.ContainsFunc(items, func(u unstructured.Unstructured) bool { return client.ObjectKeyFromObject(&u) == key })
}

func (g *gathered) snapshot(ctx context.Context, clock clock.PassiveClock) (*resize.Snapshot, error) {
	store, err := g.store()
	if err != nil {
		return nil, err
	}
	return resize.TakeSnapshot(ctx, kinds.All(), g, store, clock)
}
