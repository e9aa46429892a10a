package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// faultsError has the faults of a file.
type faultsError struct {
	path, base string
	faults     field.ErrorList
}

func (e *faultsError) Error() string {
	lines := make([]string, len(e.faults))
	for i, fault := range e.faults {
		lines[i] = "  " + strings.TrimPrefix(fault.Error(), e.base)
	}
	return fmt.Sprintf("%s:\n%s", e.path, strings.Join(lines, "\n"))
}

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check FILE", Short: "Say what is wrong with an ensemble.yaml", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := readFile(args[0])
			if err != nil {
				return err
			}
			_, err = io.WriteString(cmd.OutOrStdout(), describe(args[0], file))
			return err
		},
	}
}

// describe says what a file without faults has, and what about it a user may not expect.
func describe(path string, file *ensemblefile.File) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: no faults; it has %d entries of jobs and %d rules\n", path, len(file.Jobs), len(file.Rules))
	for _, sentence := range rules.New(file, rules.Options{CannotResize: true}).NotRun() {
		fmt.Fprintln(&text, sentence)
	}
	for i := range file.Rules {
		rule := &file.Rules[i]
		if rule.Trigger != ensemblefile.TriggerStart && rule.Trigger != ensemblefile.TriggerMetric && rule.Name != "" {
			fmt.Fprintf(&text, "rules[%d] is about jobs named %q alone; ensemble-python would run it for all jobs\n", i, rule.Name)
		}
	}
	return text.String()
}
