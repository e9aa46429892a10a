// Package why is the command `kubectl ensemble explain`: it finds the object that is asked about, gathers the facts and prints the
// explanation.
package why

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/kinds"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cli"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/facts"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/explain"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// words are those for what can be explained, beside the kinds of workloads.
var words = map[string]string{
	"member": explain.KindMember, "members": explain.KindMember, "ensemblemember": explain.KindMember, "ensemblemembers": explain.KindMember,
	"pool": explain.KindPool, "pools": explain.KindPool, "nodepool": explain.KindPool, "nodepools": explain.KindPool, "enp": explain.KindPool,
	"pod": explain.KindPod, "pods": explain.KindPod, "po": explain.KindPod,
	"node": explain.KindNode, "nodes": explain.KindNode, "no": explain.KindNode,
}

// New returns the command.
func New(env *cli.Environment) *cobra.Command {
	return &cobra.Command{
		Use:   "explain MEMBER|POOL|POD|NODE",
		Short: "Say why a member, a pool, a pod or a node waits, and the one thing to do",
		Long: `Say why a member, a pool, a pod or a node waits, from what you may read, and the one thing to do about it.

The steps of a member come in the order in which a growth takes them; the one that it waits for has a mark. A name that several have is
written with its kind: member/NAME, pool/NAME, pod/NAME or node/NAME; the member of a Job is job/NAME, that of a JobSet jobset/NAME.`,
		Example: `  kubectl ensemble explain demo
  kubectl ensemble explain pool/hpc-a
  kubectl ensemble explain pod/demo-3-x7k2p -n team-a -o yaml`,
		GroupID:           cli.GroupRead,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: env.Complete(cli.Members, cli.Pools),
		RunE: func(cmd *cobra.Command, args []string) error {
			reader, err := env.Cluster()
			if err != nil {
				return err
			}
			namespace, err := env.Namespace()
			if err != nil {
				return err
			}
			e, err := run(cmd.Context(), env, reader, namespace, args[0])
			if err != nil {
				return err
			}
			return env.Print(e, func(w io.Writer) error { return text(env, w, e) })
		},
	}
}

// found is what an argument names: one of them is set.
type found struct {
	member *v1alpha1.EnsembleMember
	pool   *v1alpha1.NodePool
	pod    *corev1.Pod
	node   *corev1.Node
}

func run(ctx context.Context, env *cli.Environment, reader *cluster.Reader, namespace, argument string) (*explain.Explanation, error) {
	f, err := find(ctx, reader, namespace, argument)
	if err != nil {
		return nil, err
	}
	now := env.Now()
	switch {
	case f.member != nil:
		known, err := facts.Member(ctx, reader, now, f.member)
		if err != nil {
			return nil, err
		}
		return explain.Member(known), nil
	case f.pool != nil:
		known, err := facts.Pool(ctx, reader, now, f.pool)
		if err != nil {
			return nil, err
		}
		return explain.Pool(known, f.pool), nil
	case f.pod != nil:
		known, err := facts.Pod(ctx, reader, now, f.pod)
		if err != nil {
			return nil, err
		}
		return explain.Pod(known, f.pod), nil
	default:
		known, err := facts.Node(ctx, reader, now, f.node)
		if err != nil {
			return nil, err
		}
		return explain.Node(known, f.node), nil
	}
}

// find finds what an argument names, NAME or KIND/NAME.
func find(ctx context.Context, reader *cluster.Reader, namespace, argument string) (*found, error) {
	word, name, has := strings.Cut(argument, "/")
	if !has {
		word, name = "", argument
	}
	wanted, known := words[strings.ToLower(word)]
	kind, workload := kinds.All().Called(strings.ToLower(word)), name
	if kind != nil {
		wanted, known, name = explain.KindMember, true, member.Name(kind, name)
	}
	if has && !known {
		return nil, fmt.Errorf("%q is no kind that can be explained; say member/NAME, pool/NAME, pod/NAME or node/NAME", word)
	}
	all := &found{}
	var names []string
	var err error
	look := func(kind string, read func() (bool, error)) {
		if err != nil || (wanted != "" && wanted != kind) {
			return
		}
		var is bool
		if is, err = read(); is {
			names = append(names, strings.ToLower(kind)+"/"+name)
		}
	}
	look(explain.KindMember, func() (bool, error) {
		m, err := reader.EnsembleMember(ctx, namespace, name)
		all.member = m
		return m != nil, err
	})
	look(explain.KindPool, func() (bool, error) {
		p, err := reader.NodePool(ctx, name)
		all.pool = p
		return p != nil, err
	})
	look(explain.KindPod, func() (bool, error) {
		p, err := reader.Pod(ctx, namespace, name)
		all.pod = p
		return p != nil, err
	})
	look(explain.KindNode, func() (bool, error) {
		n, err := reader.Node(ctx, name)
		all.node = n
		return n != nil, err
	})
	switch {
	case err != nil:
		return nil, err
	case len(names) > 1:
		return nil, fmt.Errorf("%s is the name of several: say %s", name, strings.Join(names, " or "))
	case len(names) == 1:
		return all, nil
	case kind != nil:
		if err := memberless(ctx, reader, kind, namespace, workload); err != nil {
			return nil, err
		}
	}
	what := "no member, pool, pod or node"
	if wanted != "" {
		what = "no " + strings.ToLower(wanted)
	}
	message := fmt.Sprintf("%s is called %s (namespace %s)", what, name, namespace)
	if gaps := reader.Gaps(); len(gaps) > 0 {
		message += ", as far as can be seen: " + cluster.Describe(gaps)
	}
	return nil, fmt.Errorf("%s", message)
}

// memberless is an error that says why a workload has no member; nil where the workload is not there, or may not be read.
func memberless(ctx context.Context, reader *cluster.Reader, kind member.Kind, namespace, name string) error {
	object, err := reader.Workload(ctx, kind, namespace, name)
	words := kind.Words()
	switch {
	case err != nil || object == nil:
		return err
	case len(reader.Gaps()) > 0:
		// Its member may be there all the same.
		return nil
	case !member.Managed(object):
		return fmt.Errorf("%s %s/%s is not managed: it has no annotation %s", words.Kind, namespace, name, v1alpha1.AnnotationNodePools)
	default:
		return fmt.Errorf("%s %s/%s has no EnsembleMember: the controller has yet to look at it, or was not told to manage %s (--kinds; "+
			"kubectl describe says what it has against this one)", words.Kind, namespace, name, words.Kinds)
	}
}

// colours are those of the states.
var colours = map[explain.State]cli.Colour{
	explain.Done: cli.Good, explain.Waiting: cli.Wait, explain.Blocked: cli.Bad, explain.Later: cli.Faint, explain.Unknown: cli.Wait,
}

// text prints an explanation for people.
func text(env *cli.Environment, w io.Writer, e *explain.Explanation) error {
	_, err := io.WriteString(w, e.Text(env.Wide(), func(state explain.State, text string) string { return env.Paint(colours[state], text) }))
	return err
}
