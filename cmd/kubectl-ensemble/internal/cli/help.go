package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// groupAnnotation on a flag is the group under which the help shows it.
const groupAnnotation = "ensemble-group"

// order is that in which the help shows the groups: first what a command has of its own.
var order = []string{"", "Output", "Cluster Autoscaler", "Connection"}

// Group has the help show the flags of a set under the name of the set.
func Group(set *pflag.FlagSet) {
	set.VisitAll(func(flag *pflag.Flag) {
		if flag.Annotations == nil {
			flag.Annotations = map[string][]string{}
		}
		flag.Annotations[groupAnnotation] = []string{set.Name()}
	})
}

// groupHelp has a command and those below it show their flags in groups.
func groupHelp(root *cobra.Command) {
	root.SetUsageFunc(func(cmd *cobra.Command) error {
		_, err := fmt.Fprint(cmd.OutOrStderr(), usage(cmd))
		return err
	})
}

func usage(cmd *cobra.Command) string {
	var text strings.Builder
	text.WriteString("Usage:\n")
	if cmd.Runnable() && !cmd.HasAvailableSubCommands() {
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
				fmt.Fprintf(&text, "%s  %-12s %s\n", head, c.Name(), c.Short)
				head = ""
			}
		}
	}
	for _, group := range cmd.Groups() {
		commands(group.Title, group.ID)
	}
	commands("Other commands:", "")
	for _, name := range order {
		set := pflag.NewFlagSet(name, pflag.ContinueOnError)
		add := func(flag *pflag.Flag) {
			if group := strings.Join(flag.Annotations[groupAnnotation], ""); group == name {
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
		text.WriteString("\n" + title + ":\n" + strings.TrimRight(set.FlagUsagesWrapped(100), "\n") + "\n")
	}
	return text.String()
}
