// Package cli is what all commands of kubectl ensemble share: the flags that name the cluster, the streams, and how answers are printed.
package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/flaggroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cluster"
)

// The groups of commands in the help of the root command: those that only read, and those that change something.
const (
	GroupRead  = "read"
	GroupWrite = "write"
)

// The values of --output besides none, which prints tables for people.
const (
	OutputJSON = "json"
	OutputYAML = "yaml"
	OutputWide = "wide"
)

// Environment is what a command gets from the root, by its New(env *cli.Environment) *cobra.Command: where the cluster is, where to print,
// and what time it is.
type Environment struct {
	// Flags name the cluster, the user and the namespace, as for kubectl.
	Flags *genericclioptions.ConfigFlags
	// Streams are where to read and print.
	Streams genericiooptions.IOStreams
	// Version is that of the program.
	Version string
	// Now tells the time.
	Now func() time.Time

	// Output is one of the Output constants, or empty.
	Output string
	// AutoscalerNamespace is where Cluster Autoscaler writes its status; empty for the places where it usually is.
	AutoscalerNamespace string
}

// ExitError ends the program with a code of its own. Its message is printed unless it is empty.
type ExitError struct {
	// Code is from 1 to 125.
	Code int
	// Message is a sentence for people, or empty when all has been said.
	Message string
}

func (e *ExitError) Error() string { return e.Message }

// AddFlags adds to the root command the flags that all commands have.
func (e *Environment) AddFlags(root *cobra.Command) {
	sets := flaggroup.New("Output", "Cluster Autoscaler", "Connection")
	e.Flags.AddFlags(sets.Of("Connection"))
	sets.Of("Output").StringVarP(&e.Output, "output", "o", "", "how to print: json, yaml or wide; a table without it")
	sets.Of("Cluster Autoscaler").StringVar(&e.AutoscalerNamespace, "autoscaler-namespace", "",
		"namespace in which Cluster Autoscaler writes its status (its flag --namespace); without it "+strings.Join(
			cluster.AutoscalerNamespaces, ", then ",
		))
	sets.AddTo(root, true)
	complete := cobra.FixedCompletions([]string{OutputJSON, OutputYAML, OutputWide}, cobra.ShellCompDirectiveNoFileComp)
	_ = root.RegisterFlagCompletionFunc("output", complete) // It fails for a flag that does not exist; this one was added above.
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return e.Validate() }
}

// Validate refuses a value of --output that is not known.
func (e *Environment) Validate() error {
	if e.Output != "" && !slices.Contains([]string{OutputJSON, OutputYAML, OutputWide}, e.Output) {
		return fmt.Errorf("--output is %q; it has to be %s, %s or %s", e.Output, OutputJSON, OutputYAML, OutputWide)
	}
	return nil
}

// Cluster reaches the API server with the rights of the user.
func (e *Environment) Cluster() (*cluster.Reader, error) {
	config, err := e.Flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	config.UserAgent = "kubectl-ensemble/" + e.Version
	namespaces := cluster.AutoscalerNamespaces
	if e.AutoscalerNamespace != "" {
		namespaces = []string{e.AutoscalerNamespace}
	}
	return cluster.New(config, namespaces)
}

// Namespace is that of --namespace, or of the context of the kubeconfig.
func (e *Environment) Namespace() (string, error) {
	namespace, _, err := e.Flags.ToRawKubeConfigLoader().Namespace()
	return namespace, err
}

// Wide reports whether more columns are wanted.
func (e *Environment) Wide() bool { return e.Output == OutputWide }

// Print prints an answer: value with -o json or yaml, and else what table writes.
func (e *Environment) Print(value any, table func(io.Writer) error) error {
	switch e.Output {
	case OutputJSON:
		encoder := json.NewEncoder(e.Streams.Out)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(value)
	case OutputYAML:
		text, err := yaml.Marshal(value)
		if err != nil {
			return err
		}
		_, err = e.Streams.Out.Write(text)
		return err
	default:
		return table(e.Streams.Out)
	}
}

// Terminal reports whether w is a terminal that shows colours and lets a line be written again.
func Terminal(w io.Writer) bool {
	file, is := w.(*os.File)
	return is && term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb"
}

// Fit cuts a line to the width of the terminal that w is, so that it can be written again in its place.
func Fit(w io.Writer, line string) string {
	file, is := w.(*os.File)
	if !is {
		return line
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if runes := []rune(line); err == nil && width > 1 && len(runes) >= width {
		return string(runes[:width-2]) + "…"
	}
	return line
}

// Colour is how much a text is to stand out.
type Colour string

// The colours, by what they tell.
const (
	Good  Colour = "32"
	Wait  Colour = "33"
	Bad   Colour = "31"
	Faint Colour = "2"
	Bold  Colour = "1"
)

// Paint colours a text where standard output is a terminal, and leaves it as it is with NO_COLOR and elsewhere.
func (e *Environment) Paint(colour Colour, text string) string {
	if os.Getenv("NO_COLOR") != "" || !Terminal(e.Streams.Out) || text == "" {
		return text
	}
	return "\x1b[" + string(colour) + "m" + text + "\x1b[0m"
}
