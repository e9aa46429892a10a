// Package flaggroup has the help of a program show its flags in groups.
package flaggroup

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Groups of both programs that run in a cluster.
const (
	TLS            = "TLS"
	LeaderElection = "Leader election"
	Observability  = "Metrics, health and tracing"
	GRPCLimits     = "gRPC limit"
	HTTPLimits     = "HTTP limit"
	General        = "General"
)

// annotation on a flag is the group under which the help shows it.
const annotation = "ensemble-group"

// width is the number of columns that the help has.
const width = 100

// Sets are sets of flags, each named by its group, in the order in which the help shows them.
type Sets struct{ inOrder []*pflag.FlagSet }

// New are empty sets of these names.
func New(names ...string) *Sets {
	sets := &Sets{}
	for _, name := range names {
		sets.Of(name)
	}
	return sets
}

// Of is the set of a name, which is added at the end where there is none.
func (s *Sets) Of(name string) *pflag.FlagSet {
	if at := slices.IndexFunc(s.inOrder, func(set *pflag.FlagSet) bool { return set.Name() == name }); at >= 0 {
		return s.inOrder[at]
	}
	set := pflag.NewFlagSet(name, pflag.ContinueOnError)
	s.inOrder = append(s.inOrder, set)
	return set
}

// AddTo gives the flags to a command, and has the help of the command and of those below it show flags in groups. persistent says whether
// those below it have the flags too. What is in no set comes first.
func (s *Sets) AddTo(root *cobra.Command, persistent bool) {
	flags := root.Flags()
	if persistent {
		flags = root.PersistentFlags()
	}
	order := []string{""}
	for _, set := range s.inOrder {
		set.VisitAll(func(flag *pflag.Flag) {
			if flag.Annotations == nil {
				flag.Annotations = map[string][]string{}
			}
			flag.Annotations[annotation] = []string{set.Name()}
			if flags.Lookup(flag.Name) != nil {
				// As pflag itself has it; of two sets it would leave the second one's out, and its variable would never be set.
				panic(fmt.Sprintf("the flag --%s is declared twice, the second time in the group %s", flag.Name, set.Name()))
			}
		})
		flags.AddFlagSet(set)
		order = append(order, set.Name())
	}
	root.SetUsageFunc(func(cmd *cobra.Command) error {
		_, err := fmt.Fprint(cmd.OutOrStderr(), usage(cmd, order))
		return err
	})
}

func usage(cmd *cobra.Command, order []string) string {
	var text strings.Builder
	text.WriteString("Usage:\n")
	if cmd.Runnable() {
		text.WriteString("  " + cmd.UseLine() + "\n")
	}
	if cmd.HasAvailableSubCommands() {
		text.WriteString("  " + cmd.CommandPath() + " COMMAND [flags]\n")
	}
	if cmd.HasExample() {
		text.WriteString("\nExamples:\n" + strings.TrimRight(cmd.Example, "\n") + "\n")
	}
	commands := func(title, group string) {
		head := "\n" + title + "\n"
		for _, c := range cmd.Commands() {
			if c.GroupID == group && c.IsAvailableCommand() {
				fmt.Fprintf(&text, "%s  %-*s %s\n", head, max(12, c.NamePadding()), c.Name(), c.Short)
				head = ""
			}
		}
	}
	for _, group := range cmd.Groups() {
		commands(group.Title, group.ID)
	}
	if len(cmd.Groups()) > 0 {
		commands("Other commands:", "")
	} else {
		commands("Commands:", "")
	}
	for _, name := range order {
		set := pflag.NewFlagSet(name, pflag.ContinueOnError)
		add := func(flag *pflag.Flag) {
			if group := strings.Join(flag.Annotations[annotation], ""); group == name {
				set.AddFlag(flag)
			}
		}
		cmd.LocalFlags().VisitAll(add)
		cmd.InheritedFlags().VisitAll(add)
		if !set.HasAvailableFlags() {
			continue
		}
		title := "Flags"
		if name != "" {
			title = name + " flags"
		}
		text.WriteString("\n" + title + ":\n" + strings.TrimRight(set.FlagUsagesWrapped(width), "\n") + "\n")
	}
	return text.String()
}
