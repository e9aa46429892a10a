package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"
)

// options are the flags of Cluster Autoscaler that have an effect here, with its defaults.
type options struct {
	kubeconfig  string
	cloudConfig string

	// expanderURL and expanderCert are those of the grpc expander, both empty for none.
	expanderURL, expanderCert string

	scanInterval   time.Duration
	enforceMinSize bool

	scaleDownEnabled          bool
	scaleDownUnneededTime     time.Duration
	scaleDownUnreadyTime      time.Duration
	scaleDownDelayAfterAdd    time.Duration
	nodeDeleteDelayAfterTaint time.Duration

	maxNodeProvisionTime time.Duration
	maxNodeStartupTime   time.Duration

	okTotalUnreadyCount       int
	maxTotalUnreadyPercentage float64

	initialBackoff time.Duration
	maxBackoff     time.Duration
	backoffReset   time.Duration
}

// parseFlags reads the command line. Flags of the real program that have no effect here are returned as
// they were written; one whose effect would be missed is refused.
func parseFlags(args []string, stderr io.Writer) (options, []string, error) {
	var o options
	var cloudProvider, expander string
	var elect bool
	flags := flag.NewFlagSet("clusterautoscaler", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "path of the kubeconfig; empty: $KUBECONFIG, or the service account of the pod")
	flags.StringVar(&cloudProvider, "cloud-provider", "externalgrpc", "externalgrpc and nothing else")
	flags.StringVar(&o.cloudConfig, "cloud-config", "", "path of a YAML file with address, key, cert, cacert and grpc_timeout")
	flags.DurationVar(&o.scanInterval, "scan-interval", 10*time.Second, "time between the end of a loop and the start of the next")
	flags.BoolVar(&o.enforceMinSize, "enforce-node-group-min-size", false, "raise the target size of groups below their minimum size")
	flags.BoolVar(&o.scaleDownEnabled, "scale-down-enabled", true, "remove unneeded nodes")
	flags.DurationVar(&o.scaleDownUnneededTime, "scale-down-unneeded-time", 10*time.Minute, "how long a Ready node is unneeded before it goes")
	flags.DurationVar(
		&o.scaleDownUnreadyTime, "scale-down-unready-time", 20*time.Minute, "how long an unready node is unneeded before it goes",
	)
	flags.DurationVar(&o.scaleDownDelayAfterAdd, "scale-down-delay-after-add", 10*time.Minute, "time after a scale-up without scale-down")
	flags.DurationVar(
		&o.nodeDeleteDelayAfterTaint, "node-delete-delay-after-taint", 5*time.Second, "time from the taint to the deletion of a node",
	)
	flags.DurationVar(&o.maxNodeProvisionTime, "max-node-provision-time", 15*time.Minute, "how long a machine may take to register")
	flags.DurationVar(&o.maxNodeStartupTime, "max-node-startup-time", 15*time.Minute, "how long a registered node may take to be Ready")
	flags.IntVar(&o.okTotalUnreadyCount, "ok-total-unready-count", 3, "unready nodes that are no cause for alarm")
	flags.Float64Var(
		&o.maxTotalUnreadyPercentage, "max-total-unready-percentage", 45,
		"percentage of unready nodes from which a group or the cluster is left alone",
	)
	flags.DurationVar(
		&o.initialBackoff, "initial-node-group-backoff-duration", 5*time.Minute, "first backoff of a group after a failed scale-up",
	)
	flags.DurationVar(&o.maxBackoff, "max-node-group-backoff-duration", 30*time.Minute, "longest backoff of a group")
	flags.DurationVar(&o.backoffReset, "node-group-backoff-reset-timeout", 3*time.Hour, "time after which a failure is forgotten")
	flags.StringVar(&expander, "expander", "random", "grpc at the beginning, or none; what that leaves is chosen from at random")
	flags.StringVar(&o.expanderURL, "grpc-expander-url", "", "host:port of the grpc expander")
	flags.StringVar(&o.expanderCert, "grpc-expander-cert", "", "path of the certificates that the grpc expander may be known by, PEM")
	flags.BoolVar(&elect, "leader-elect", false, "false and nothing else: there is one replica")

	known, ignored := splitFlags(flags, args)
	if err := flags.Parse(known); err != nil {
		return options{}, nil, err
	}
	switch {
	case cloudProvider != "externalgrpc":
		return options{}, nil, fmt.Errorf("--cloud-provider is %q, only externalgrpc is supported", cloudProvider)
	case o.cloudConfig == "":
		return options{}, nil, errors.New("--cloud-config is missing, name a YAML file with the provider's address")
	case elect:
		return options{}, nil, errors.New("--leader-elect=true is not supported, run one replica with --leader-elect=false")
	case o.scanInterval <= 0:
		return options{}, nil, fmt.Errorf("--scan-interval is %s, it must be above 0", o.scanInterval)
	}
	first, rest, _ := strings.Cut(expander, ",")
	switch asks := first == "grpc"; {
	case strings.Contains(","+rest+",", ",grpc,"):
		return options{}, nil, fmt.Errorf("--expander is %q, grpc is supported as the first one only", expander)
	case asks && (o.expanderURL == "" || o.expanderCert == ""):
		return options{}, nil, fmt.Errorf("--expander is %q, which needs --grpc-expander-url and --grpc-expander-cert", expander)
	case !asks:
		o.expanderURL, o.expanderCert = "", ""
	}
	return o, ignored, nil
}

// splitFlags separates the flags that are declared from those that are not. An undeclared flag without
// "=" takes the argument after it along when that is no flag itself.
func splitFlags(declared *flag.FlagSet, args []string) (known, ignored []string) {
	for i := 0; i < len(args); i++ {
		name, value, hasValue := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		found := declared.Lookup(name)
		isFlag := strings.HasPrefix(args[i], "-")
		takesNext := isFlag && !hasValue && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-")
		switch {
		case !isFlag || (found == nil && name != "h" && name != "help"):
			argument := args[i]
			if takesNext {
				i++
				argument += " " + args[i]
			}
			ignored = append(ignored, argument)
		case found != nil && takesNext && !isBool(found):
			i++
			known = append(known, "--"+name+"="+args[i])
		case hasValue:
			known = append(known, "--"+name+"="+value)
		default:
			known = append(known, "--"+name)
		}
	}
	return known, ignored
}

func isBool(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}
