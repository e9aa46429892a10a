// Package status is the command `kubectl ensemble status`: pools and members at a glance.
package status

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cli"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cluster"
)

// Status is what the command prints.
type Status struct {
	Pools   []Pool   `json:"pools"`
	Members []Member `json:"members"`
	// Missing are the rights that the user lacks, as sentences: what they would let be read is not in the lists.
	Missing []string `json:"missing,omitempty"`
}

// Pool is a pool at a glance.
type Pool struct {
	Name string `json:"name"`
	// MinSize, MaxSize and Target are those of the spec, in machines; Floor what reservations call for.
	MinSize int32 `json:"minSize"`
	MaxSize int32 `json:"maxSize"`
	Target  int32 `json:"target"`
	Floor   int32 `json:"floor"`
	// Nodes are those that are Ready, Reserved those that members have reserved.
	Nodes    int32 `json:"nodes"`
	Reserved int32 `json:"reserved"`
	// Paused is spec.paused.
	Paused bool `json:"paused"`
	State
}

// Member is a member at a glance.
type Member struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Desired and Current are sizes, in pods.
	Desired int32 `json:"desired"`
	Current int32 `json:"current"`
	// Nodes are those that are Ready and held, of Reserved.
	Nodes    int32 `json:"nodes"`
	Reserved int32 `json:"reserved"`
	// Pools are the reservations in a few words.
	Pools string `json:"pools"`
	State
}

// State is the condition Ready.
type State struct {
	// Ready is True, False or Unknown.
	Ready string `json:"ready"`
	// Reason and Message are those of the condition.
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Created is when the object was created.
	Created metav1.Time `json:"created"`
}

// New returns the command.
func New(env *cli.Environment) *cobra.Command {
	var everywhere bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show pools and members at a glance",
		Long: `Show all pools, and the members in the namespace, at a glance. With -o wide each says in a sentence what it waits for;
"kubectl ensemble explain NAME" has the whole story.`,
		Example: `  kubectl ensemble status
  kubectl ensemble status --all-namespaces -o wide`,
		GroupID:           cli.GroupRead,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reader, err := env.Cluster()
			if err != nil {
				return err
			}
			namespace, err := env.Namespace()
			if err != nil {
				return err
			}
			if everywhere {
				namespace = metav1.NamespaceAll
			}
			s, err := read(cmd.Context(), reader, namespace)
			if err != nil {
				return err
			}
			return env.Print(s, func(w io.Writer) error { return table(env, w, s, everywhere) })
		},
	}
	cmd.Flags().BoolVarP(&everywhere, "all-namespaces", "A", false, "show the members of all namespaces")
	return cmd
}

func read(ctx context.Context, reader *cluster.Reader, namespace string) (*Status, error) {
	s := &Status{Pools: []Pool{}, Members: []Member{}}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		pools, err := reader.NodePools(ctx)
		for i := range pools {
			s.Pools = append(s.Pools, poolOf(&pools[i]))
		}
		return err
	})
	group.Go(func() error {
		members, err := reader.EnsembleMembers(ctx, namespace)
		for i := range members {
			s.Members = append(s.Members, memberOf(&members[i]))
		}
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, gap := range reader.Gaps() {
		s.Missing = append(s.Missing, gap.String())
	}
	return s, nil
}

func poolOf(p *v1alpha1.NodePool) Pool {
	out := Pool{
		Name: p.Name, MinSize: p.Spec.MinSize, MaxSize: p.Spec.MaxSize, Target: p.Spec.Replicas, Floor: p.Status.Floor,
		Nodes: p.Status.Ready, Reserved: p.Status.Reserved, Paused: p.Spec.Paused, State: stateOf(p.Status.Conditions, p.CreationTimestamp),
	}
	if out.Paused {
		out.Reason = v1alpha1.ReasonPaused
	}
	return out
}

func memberOf(m *v1alpha1.EnsembleMember) Member {
	return Member{
		Namespace: m.Namespace, Name: m.Name, Desired: m.Spec.Size, Current: m.Status.Size, Nodes: m.Status.Nodes,
		Reserved: m.Status.Reserved, Pools: m.Status.Pools, State: stateOf(m.Status.Conditions, m.CreationTimestamp),
	}
}

// stateOf says how an object is; one that no program has looked at yet says so.
func stateOf(conditions []metav1.Condition, created metav1.Time) State {
	c := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	if c == nil {
		return State{Ready: string(metav1.ConditionUnknown), Reason: "NotObserved", Message: "no program has looked at it yet", Created: created}
	}
	return State{Ready: string(c.Status), Reason: c.Reason, Message: c.Message, Created: created}
}

func (s *State) colour() cli.Colour {
	if s.Ready == string(metav1.ConditionTrue) {
		return cli.Good
	}
	return cli.Wait
}

// table prints what people read.
func table(env *cli.Environment, w io.Writer, s *Status, everywhere bool) error {
	now := env.Now()
	if len(s.Pools) > 0 {
		head := []string{"POOL", "MIN", "MAX", "TARGET", "FLOOR", "NODES", "RESERVED", "READY", "REASON", "AGE"}
		rows := make([][]cli.Cell, 0, len(s.Pools))
		for i := range s.Pools {
			p := &s.Pools[i]
			row := append(cells(p.Name), numbers(p.MinSize, p.MaxSize, p.Target, p.Floor, p.Nodes, p.Reserved)...)
			rows = append(rows, append(row, p.cells(env, now)...))
		}
		if err := show(env, w, head, rows); err != nil {
			return err
		}
	}
	if len(s.Members) > 0 {
		if len(s.Pools) > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		head := []string{"MEMBER", "DESIRED", "CURRENT", "NODES", "POOLS", "READY", "REASON", "AGE"}
		if everywhere {
			head = append([]string{"NAMESPACE"}, head...)
		}
		rows := make([][]cli.Cell, 0, len(s.Members))
		for i := range s.Members {
			m := &s.Members[i]
			row := cells(m.Name)
			if everywhere {
				row = cells(m.Namespace, m.Name)
			}
			row = append(append(row, numbers(m.Desired, m.Current, m.Nodes)...), cells(orNone(m.Pools))...)
			rows = append(rows, append(row, m.cells(env, now)...))
		}
		if err := show(env, w, head, rows); err != nil {
			return err
		}
	}
	if len(s.Pools)+len(s.Members)+len(s.Missing) == 0 {
		_, err := fmt.Fprintln(w, "There are no pools, and no members in the namespace.")
		return err
	}
	for _, missing := range s.Missing {
		if _, err := fmt.Fprintf(w, "\nNot shown: %s\n", missing); err != nil {
			return err
		}
	}
	return nil
}

// show prints a table, with the sentences where they are wanted.
func show(env *cli.Environment, w io.Writer, head []string, rows [][]cli.Cell) error {
	if env.Wide() {
		head = append(head, "MESSAGE")
	}
	return env.Table(w, head, rows)
}

// cells are the last columns.
func (s *State) cells(env *cli.Environment, now time.Time) []cli.Cell {
	row := []cli.Cell{
		{Text: s.Ready, Colour: s.colour()}, {Text: s.Reason, Colour: s.colour()}, {Text: duration.HumanDuration(now.Sub(s.Created.Time))},
	}
	if env.Wide() {
		row = append(row, cli.Cell{Text: s.Message})
	}
	return row
}

func cells(texts ...string) []cli.Cell {
	row := make([]cli.Cell, len(texts))
	for i, text := range texts {
		row[i].Text = text
	}
	return row
}

func numbers(all ...int32) []cli.Cell {
	row := make([]cli.Cell, len(all))
	for i, n := range all {
		row[i].Text = strconv.Itoa(int(n))
	}
	return row
}

func orNone(text string) string {
	if text == "" {
		return "<none>"
	}
	return text
}
