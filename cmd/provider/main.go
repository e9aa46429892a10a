// Command provider is the external gRPC cloud provider of Cluster Autoscaler. It answers Cluster
// Autoscaler, keeps the machines of NodePools at their targets, and releases the nodes that ensemble
// members give up.
package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/flaggroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/process"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/serving"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/tracing"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/untilchanged"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/machine"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/server/wire"
)

// version is set by the linker.
var version = "dev"

// Config is everything that the provider can be told.
type Config struct {
	process.Config
	TLS             TLSConfig
	AnnounceTimeout time.Duration
	MaxStaleness    time.Duration
	Waits           machine.Waits
	Limits          serving.Limits
	// ExpanderAddress is where the expander is served, empty for nowhere; ExpanderBytes the size of its largest request.
	ExpanderAddress string
	ExpanderBytes   int
	// Questions are what one may hold that the expander is asked.
	Questions wire.Limits
	Expander  ExpanderLimits
	Tracing   tracing.Config
	Backends  BackendsConfig
}

// ExpanderLimits are those of the expander's port that differ from those of Cluster Autoscaler's.
type ExpanderLimits struct {
	// Connections are those in all, ConnectionsPerAddress those from one address. Cluster Autoscaler has one, and anybody may have
	// more, since nobody shows a certificate here: of two from one address the newer one stays.
	Connections, ConnectionsPerAddress int
	// Unfinished is how many requests may be on their way, each of which may occupy some hundred MiB before it is known from whom it is.
	Unfinished int
}

func main() { process.Main(command()) }

func command() *cobra.Command {
	// Cluster Autoscaler makes thousands of calls in a loop, one after the other, some 8,000 in a second at best.
	// It has one connection, which is looked at again every few minutes: at its certificate, and whether another replica would do better.
	config := Config{Limits: serving.Limits{
		RequestsPerSecond: 20_000, Burst: 20_000, RequestBytes: 4 << 20, Streams: 128,
		Connections: 256, ConnectionsPerAddress: 16, Unfinished: 256,
		HandshakeWithin: 10 * time.Second, ReadWithin: 10 * time.Second, Idle: 5 * time.Minute, Age: 5 * time.Minute,
	}, Expander: ExpanderLimits{Connections: 32, ConnectionsPerAddress: 1, Unfinished: 3}}
	config.Questions = wire.DefaultLimits()
	cmd := &cobra.Command{
		Use:           "provider",
		Short:         "External gRPC cloud provider of Cluster Autoscaler for HPC ensembles",
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := config.validate(cmd.Flags().Changed); err != nil {
				return err
			}
			return run(cmd.Context(), &config)
		},
	}
	groups := config.flags(cmd.Name())
	groups.AddTo(cmd, false)
	cmd.CompletionOptions.DisableDefaultCmd = true
	// What Cluster Autoscaler's own image lacks.
	cmd.AddCommand(untilchanged.Command(func() logr.Logger { return process.Logger(config.Verbosity) }), untilchanged.Install())
	return cmd
}

// The groups of flags that the controller does not have.
const (
	groupAutoscaler = "Cluster Autoscaler"
	groupMachines   = "Machine"
	groupExpander   = "Expander"
)

// flags are those of the configuration, in the groups in which the help shows them. The values that limits have are the defaults.
func (c *Config) flags(program string) *flaggroup.Sets {
	groups := flaggroup.New(
		groupAutoscaler, groupMachines, flaggroup.TLS, flaggroup.LeaderElection, flaggroup.Observability, flaggroup.GRPCLimits,
		groupExpander, flaggroup.HTTPLimits, flaggroup.General,
	)
	c.AddFlags(groups, program)
	c.TLS.addFlags(groups.Of(flaggroup.TLS))
	c.Limits.AddFlags(groups.Of(flaggroup.GRPCLimits))
	c.Tracing.AddFlags(groups.Of(flaggroup.Observability))
	c.autoscalerFlags(groups.Of(groupAutoscaler))
	c.Backends.addFlags(groups.Of(groupMachines))
	c.machineFlags(groups.Of(groupMachines))
	c.expanderFlags(groups.Of(groupExpander))
	return groups
}

func (c *Config) autoscalerFlags(flags *pflag.FlagSet) {
	flags.StringVar(&c.GRPCAddress, "grpc-address", ":8086", "address to serve Cluster Autoscaler on")
	flags.DurationVar(&c.AnnounceTimeout, "release-announce-timeout", 15*time.Second,
		"how long a release waits for Cluster Autoscaler to ask for the lowered minimum size, before it is taken not to be running")
	flags.DurationVar(&c.MaxStaleness, "max-staleness", 30*time.Second,
		"how long the API server may be out of reach before Cluster Autoscaler is no longer answered from memory")
}

func (c *Config) machineFlags(flags *pflag.FlagSet) {
	flags.DurationVar(&c.Waits.Call, "launcher-call-timeout", 5*time.Minute, "how long one call of a cloud may take")
	flags.DurationVar(&c.Waits.Consistency, "consistency-window", 5*time.Minute,
		"how long a machine that its cloud does not list may exist all the same, and one that no record tells of may be about to get its record")
	flags.DurationVar(
		&c.Waits.EndAgain, "end-machine-again-after", 2*time.Minute, "how long after a machine was told to go it is told again",
	)
	flags.DurationVar(
		&c.Waits.EndAlarm, "end-machine-alarm-after", 10*time.Minute, "how long after that an event and a metric say that it hangs",
	)
	flags.DurationVar(&c.Waits.Sweep, "orphan-sweep-interval", 10*time.Minute,
		"how often machines are looked for that no record tells of; the first look after a start only tells")
}

func (c *Config) expanderFlags(flags *pflag.FlagSet) {
	flags.StringVar(&c.ExpanderAddress, "expander-address", ":8087",
		"address to serve Cluster Autoscaler's gRPC expander on, which asks for no client certificate; empty for nowhere")
	flags.IntVar(&c.ExpanderBytes, "max-expander-request-bytes", 256<<20,
		"size of the largest request to the expander, which has all pods that find no node once for each node group")
	c.Questions.AddFlags(flags)
	flags.IntVar(&c.Expander.Connections, "max-expander-connections", c.Expander.Connections,
		"connections to the expander in all; of too many the newest stays")
	flags.IntVar(&c.Expander.ConnectionsPerAddress, "max-expander-connections-per-address", c.Expander.ConnectionsPerAddress,
		"connections to the expander from one IP address, or from one IPv6 network of 64 bits")
	flags.IntVar(&c.Expander.Unfinished, "max-expander-unfinished-requests", c.Expander.Unfinished,
		"requests to the expander in all whose message has not come whole, each of which may occupy --max-expander-request-bytes")
}

func (c *Config) validate(given func(flag string) bool) error {
	switch {
	case c.MaxStaleness < time.Second:
		return fmt.Errorf("--max-staleness is %s; it must be at least 1s", c.MaxStaleness)
	case c.Waits.Shortest() < time.Second:
		return fmt.Errorf("--launcher-call-timeout, --consistency-window, --end-machine-again-after, --end-machine-alarm-after and "+
			"--orphan-sweep-interval must be at least 1s; one is %s", c.Waits.Shortest())
	case c.AnnounceTimeout < 0:
		return fmt.Errorf("--release-announce-timeout is %s; it must not be negative", c.AnnounceTimeout)
	case c.ExpanderBytes < 1<<20:
		return fmt.Errorf("--max-expander-request-bytes is %d; it must be at least %d", c.ExpanderBytes, 1<<20)
	}
	for flag, value := range map[string]int{
		"max-expander-connections": c.Expander.Connections, "max-expander-connections-per-address": c.Expander.ConnectionsPerAddress,
		"max-expander-unfinished-requests": c.Expander.Unfinished,
	} {
		if value < 1 {
			return fmt.Errorf("--%s is %d; it must be at least 1: requests to the expander are large", flag, value)
		}
	}
	return errors.Join(
		c.TLS.validate(given), c.Limits.Validate(), c.HTTP.Validate(), c.Questions.Validate(), c.Tracing.Validate(), c.Backends.validate(),
	)
}
