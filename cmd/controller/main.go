// Command controller serves ensemble members, which ask it to grow and shrink, and resizes their
// MiniClusters: nodes exist before pods are added, and pods are gone before their nodes are given back.
package main

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/flaggroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/kinds"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/process"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/serving"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/tracing"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/admission"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/budget"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/endpoint"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// version is set by the linker.
var version = "dev"

// Config is everything that the controller can be told.
type Config struct {
	process.Config
	TLS     TLSConfig
	Limits  serving.Limits
	Tracing tracing.Config
	// Member is how often one member may ask.
	Member endpoint.Rate
	// AdmissionReads and MemberReads bound what the API server is asked because of what users write, and because of what members ask.
	AdmissionReads, MemberReads budget.Rate
	// TokenReviews bounds what it is asked because of callers with tokens, for each address.
	TokenReviews budget.Rate
	// MemberSizes bounds how often members ask for another size.
	MemberSizes budget.Rate
	// MemberWrites bounds how often what members tell of their queues is written.
	MemberWrites budget.Rate
	// Reviews are what the webhooks take at once.
	Reviews admission.Bounds
	// TokenAudience is the audience that the tokens of callers have to be for.
	TokenAudience string
	// Insecure is to believe callers whom nothing identifies.
	Insecure bool
	// WebhookAddress is where the API server has Ensembles, MiniClusters and NodePools looked at.
	WebhookAddress string
	// Kinds are the names of the kinds of workloads that are managed.
	Kinds []string
	// MemberEndpoint is the host:port at which members of Ensembles are told to ask; empty for that of our Service.
	MemberEndpoint string
	// MaxStaleness is how long the API server may be out of reach before this replica is no longer ready.
	MaxStaleness time.Duration
	// DefaultNodePools are the pools of members of Ensembles that name none.
	DefaultNodePools []string
}

// The budgets, by which flags and metrics are named.
const (
	admissionReads = "admission-reads"
	memberReads    = "member-reads"
	tokenReviews   = "token-reviews"
	memberSizes    = "member-sizes"
	memberWrites   = "member-writes"
)

func main() { process.Main(command()) }

func command() *cobra.Command {
	// A member asks when its queue changes. Its requests have a few hundred bytes, their payload 16 KiB at most. It has a connection
	// for each program that asks, and whoever has an address of a pod may have as many: the limits are what all the pods of a cluster
	// can take of this process together, some 100 MiB.
	config := Config{Member: endpoint.Rate{PerSecond: 10, Burst: 20}, Limits: serving.Limits{
		RequestsPerSecond: 100, Burst: 200, RequestBytes: 24 << 10, Streams: 4, Connections: 4096, ConnectionsPerAddress: 16,
		Unfinished:      1024,
		HandshakeWithin: 10 * time.Second, ReadWithin: 10 * time.Second, Idle: 5 * time.Minute, Age: time.Hour,
	},
		AdmissionReads: budget.Rate{PerNamespace: 20, Total: 40}, MemberReads: budget.Rate{PerNamespace: 400, Total: 800},
		TokenReviews: budget.Rate{PerNamespace: 20, Total: 200},
		MemberSizes:  budget.Rate{PerNamespace: 50, Total: 500}, MemberWrites: budget.Rate{PerNamespace: 20, Total: 200},
		Reviews: admission.ShippedBounds,
	}
	cmd := &cobra.Command{
		Use:           "controller",
		Short:         "Resizes the MiniClusters of HPC ensembles, nodes first",
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
	cmd.AddCommand(ungate())
	return cmd
}

// The groups of flags that the provider does not have.
const (
	groupMembers      = "Ensemble member"
	groupMemberLimits = "Member limit"
	groupWebhooks     = "Admission webhook"
)

// flags are those of the configuration, in the groups in which the help shows them. The values that limits have are the defaults.
func (c *Config) flags(program string) *flaggroup.Sets {
	groups := flaggroup.New(
		groupMembers, groupMemberLimits, groupWebhooks, flaggroup.TLS, flaggroup.LeaderElection, flaggroup.Observability,
		flaggroup.GRPCLimits, flaggroup.HTTPLimits, flaggroup.General,
	)
	c.AddFlags(groups, program)
	c.TLS.addFlags(groups.Of(flaggroup.TLS))
	c.Limits.AddFlags(groups.Of(flaggroup.GRPCLimits))
	c.Tracing.AddFlags(groups.Of(flaggroup.Observability))
	c.memberFlags(groups.Of(groupMembers))
	c.memberLimitFlags(groups.Of(groupMemberLimits))
	c.webhookFlags(groups.Of(groupWebhooks))
	return groups
}

func (c *Config) memberLimitFlags(flags *pflag.FlagSet) {
	flags.Float64Var(&c.Member.PerSecond, "max-member-requests-per-second", c.Member.PerSecond,
		"requests that one member may make in a second, from all of its pods; 0 for no limit")
	flags.IntVar(&c.Member.Burst, "max-member-request-burst", c.Member.Burst, "requests that one member may make at once")
	c.AdmissionReads.AddFlags(flags, admissionReads,
		"questions to the API server about what is written (NodePools that the cache lacks, labels, LimitRanges)")
	c.MemberReads.AddFlags(flags, memberReads,
		"questions to the API server about what members ask (their pods and EnsembleMembers)")
	c.TokenReviews.AddFlags(flags, tokenReviews,
		"requests with a token, each of which the API server is asked about twice; of one address, which the flag calls a namespace,")
	c.MemberSizes.AddFlags(flags, memberSizes, "requests of members for another size, each of which is a write")
	c.MemberWrites.AddFlags(flags, memberWrites, "writes of what members tell of their queues (the others are put off)")
}

func (c *Config) webhookFlags(flags *pflag.FlagSet) {
	flags.StringVar(&c.WebhookAddress, "webhook-address", ":9443",
		"address to serve the admission webhooks on; not used with --disable-tls")
	c.HTTP.AddWebhookFlags(flags)
	flags.IntVar(&c.Reviews.Reviews, "max-reviews", c.Reviews.Reviews,
		"reviews that the admission webhooks look at together; others wait for 3 s and are then refused")
	flags.IntVar(&c.Reviews.PerAddress, "max-reviews-per-address", c.Reviews.PerAddress,
		"how many of them may come from one address")
	flags.Int64Var(&c.Reviews.Bytes, "max-review-bytes", c.Reviews.Bytes,
		"size of a review, in bytes, above which it is refused before it is read")
	flags.Int64Var(&c.Reviews.Decoded, "max-decoded-review-bytes", c.Reviews.Decoded,
		"bytes that the reviews which are looked at together may take when they are decoded, an object of JSON counted as 1 KiB; others wait")
}

func (c *Config) memberFlags(flags *pflag.FlagSet) {
	flags.StringVar(&c.GRPCAddress, "grpc-address", ":50051", "address to serve ensemble members on")
	flags.StringSliceVar(&c.Kinds, "kinds", kinds.Default(),
		"kinds of workloads that are managed, MiniCluster among them: also Job and JobSet, which need manifests/components/kind-job and "+
			"kind-jobset")
	flags.StringVar(&c.TokenAudience, "token-audience", "ensemble-autoscaler",
		"audience of the ServiceAccount tokens that are accepted; a token for the API server itself is not, so that nobody has to send one here")
	flags.StringVar(&c.MemberEndpoint, "member-endpoint", "",
		"HOST:PORT at which members of Ensembles are told to ask; without it ensemble-autoscaler.NAMESPACE.svc:50051")
	flags.StringSliceVar(&c.DefaultNodePools, "default-node-pools", nil,
		"NodePools, in order of preference, for members of Ensembles that name none; without any such members keep their size")
	flags.DurationVar(&c.MaxStaleness, "max-staleness", 30*time.Second,
		"how long the API server may be out of reach before this replica is no longer ready, and its connections end so that members find "+
			"another")
	flags.BoolVar(&c.Insecure, "insecure", false,
		"believe callers whose address belongs to no pod, and take tokens without TLS: a stranger at the port may resize every member")
}

func (c *Config) validate(given func(flag string) bool) error {
	var err error
	switch {
	case c.Member.PerSecond < 0:
		err = fmt.Errorf("--max-member-requests-per-second is %g; it must not be negative", c.Member.PerSecond)
	case c.Member.PerSecond > 0 && c.Member.Burst < 1:
		err = fmt.Errorf("--max-member-request-burst is %d; it must be at least 1", c.Member.Burst)
	case c.MaxStaleness < time.Second:
		err = fmt.Errorf("--max-staleness is %s; it must be at least 1s", c.MaxStaleness)
	case c.HTTP.ReviewsPerSecond < 1:
		err = fmt.Errorf("--max-reviews-per-second is %g; it must be at least 1", c.HTTP.ReviewsPerSecond)
	case c.TokenAudience == "":
		err = errors.New("--token-audience is empty; it must be the audience that tokens are made for")
	}
	if _, wrong := kinds.Of(c.Kinds); wrong != nil {
		err = errors.Join(err, fmt.Errorf("--kinds is %q: %w", c.Kinds, wrong))
	}
	if len(c.DefaultNodePools) > 0 {
		if _, wrong := member.ParseNodePools(strings.Join(c.DefaultNodePools, ",")); wrong != nil {
			err = errors.Join(err, fmt.Errorf("--default-node-pools is %q; it must be names of NodePools, each once", c.DefaultNodePools))
		}
	}
	for flag, address := range map[string]string{"member-endpoint": c.MemberEndpoint, "webhook-address": c.WebhookAddress} {
		if _, port, wrong := net.SplitHostPort(address); address != "" && (wrong != nil || port == "") {
			err = errors.Join(err, fmt.Errorf("--%s is %q; it must be HOST:PORT", flag, address))
		}
	}
	return errors.Join(err, c.AdmissionReads.Validate(admissionReads), c.MemberReads.Validate(memberReads),
		c.TokenReviews.Validate(tokenReviews),
		c.MemberSizes.Validate(memberSizes), c.MemberWrites.Validate(memberWrites),
		c.Reviews.Validate(), c.TLS.validate(given), c.Limits.Validate(), c.HTTP.Validate(), c.Tracing.Validate())
}
