package check

import (
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/version"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// example is where the flags are explained.
const example = "examples/cluster-autoscaler/deployment.yaml"

// findAutoscaler looks at Cluster Autoscaler: its flags as its pod has them, and whether there is another one.
func findAutoscaler(f *Facts, _ *Shipped) []Finding {
	if !f.knows("pods") {
		return nil
	}
	out := findOthers(f)
	ours := f.ours()
	if len(ours) == 0 {
		if f.Installed() && f.needsAutoscaler() {
			out = append(out, Finding{
				Error, "AutoscalerMissing", "Cluster Autoscaler",
				"no pod runs Cluster Autoscaler with --cloud-provider=externalgrpc: nothing that is reserved is ever bought",
				"kubectl apply -k examples/cluster-autoscaler; one that runs outside of the cluster is not seen here",
			})
		}
		return out
	}
	for _, a := range ours {
		out = append(out, findFlags(f, a)...)
		out = append(out, findState(f, a)...)
	}
	return out
}

// needsAutoscaler reports whether a pool leaves its size to Cluster Autoscaler, or there is no pool yet.
func (f *Facts) needsAutoscaler() bool {
	return len(f.Pools) == 0 || slices.ContainsFunc(
		f.Pools, func(p v1alpha1.NodePool) bool { return p.Spec.Autoscaler != v1alpha1.AutoscalerNone },
	)
}

// findOthers finds a second autoscaler of the same nodes.
func findOthers(f *Facts) []Finding {
	var out []Finding
	leases := map[string][]*Autoscaler{}
	for i := range f.Autoscalers {
		a := &f.Autoscalers[i]
		leases[a.lease()] = append(leases[a.lease()], a)
	}
	var registered []string
	for _, lease := range slices.Sorted(maps.Keys(leases)) {
		of := leases[lease]
		owners, isOurs, unelected := map[string]*Autoscaler{}, false, 0
		for _, a := range of {
			owners[a.Owner], isOurs = a, isOurs || a.Ours()
			if a.Flags.Value("leader-elect", "true") == "false" {
				unelected++
			}
		}
		if isOurs {
			registered = append(registered, lease)
		}
		if isOurs && len(owners) > 1 {
			out = append(out, Finding{
				Error, "SecondAutoscaler", "Lease " + lease,
				fmt.Sprintf(
					"Cluster Autoscalers of %d workloads (%s) have one lease, so that one of them alone works at a time", len(owners), podsIn(of),
				),
				"give the one of externalgrpc a lease and a status of its own: --namespace, or --leader-elect-resource-name and " +
					"--status-config-map-name",
			})
		}
		if isOurs && len(of) > 1 && unelected > 0 {
			out = append(out, Finding{
				Error, "SecondAutoscaler", of[0].object(),
				fmt.Sprintf("%d replicas of Cluster Autoscaler run with --leader-elect=false: each orders machines for the same pods", len(of)),
				"remove --leader-elect=false, or run one replica",
			})
		}
	}
	if len(registered) > 1 {
		var all []*Autoscaler
		for _, lease := range registered {
			all = append(all, leases[lease]...)
		}
		out = append(out, Finding{
			Error, "SecondAutoscaler", "Cluster Autoscaler",
			fmt.Sprintf(
				"%d Cluster Autoscalers ask the provider for its node groups (%s): each orders and deletes machines of the same NodePools",
				len(registered), podsIn(all),
			),
			"leave one of them: scale the Deployment of the other to 0",
		})
	}
	for _, mark := range slices.Sorted(maps.Keys(f.ForeignNodes)) {
		nodes := f.ForeignNodes[mark]
		out = append(out, Finding{
			Error, "SecondAutoscaler", "Node " + nodes[0],
			fmt.Sprintf(
				"%d nodes of NodePools carry the label %s, by which another autoscaler takes them for its own and may remove them", len(nodes), mark,
			),
			"take the label out of spec.template.labels of the NodePool, or off the nodes",
		})
	}
	return out
}

func podsIn(of []*Autoscaler) string {
	names := make([]string, len(of))
	for i, a := range of {
		names[i] = a.Namespace + "/" + a.Name
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// Bounds of what is sensible for intervals.
const (
	maxScanInterval = 30 * time.Second
	maxBackoff      = 2 * time.Minute
)

// minAutoscaler is the first version whose images have the provider externalgrpc.
const minAutoscaler = "1.30"

// tag finds the version of an image.
var tag = regexp.MustCompile(`:v?(\d+\.\d+(\.\d+)?)[^:/]*$`)

// findFlags looks at the flags.
func findFlags(f *Facts, a *Autoscaler) []Finding {
	var out []Finding
	say := func(severity Severity, reason, message, remedy string) {
		out = append(out, Finding{severity, reason, a.object(), message, remedy})
	}
	if found := tag.FindStringSubmatch(a.Image); found != nil {
		if v, err := version.ParseGeneric(found[1]); err == nil && v.LessThan(version.MustParseGeneric(minAutoscaler)) {
			say(Error, "AutoscalerTooOld", fmt.Sprintf(
				"its image is %s; official images have the provider externalgrpc from %s on", a.Image, minAutoscaler,
			),
				"use the version of "+example)
		}
	}
	if !a.Flags.Has("enforce-node-group-min-size") {
		say(Error, "MinSizeNotEnforced", "it runs without --enforce-node-group-min-size: it never raises a group to the floor, and nothing "+
			"that is reserved is bought",
			"add --enforce-node-group-min-size; see "+example)
	}
	switch {
	case !a.usesExpander():
		say(Warning, "ExpanderNotGRPC", fmt.Sprintf(
			"--expander is %s: it may buy nodes for pods whose nodes are reserved and on their way", a.expander(),
		),
			"set --expander=grpc,least-waste with --grpc-expander-url and --grpc-expander-cert; see "+example)
	default:
		url, want := a.Flags.Value("grpc-expander-url", ""), fmt.Sprintf(
			"%s.%s.svc:%d", serviceExpander, f.Namespace, f.portOf(serviceExpander),
		)
		if url != want {
			say(
				Error, "ExpanderUnreachable", fmt.Sprintf("--grpc-expander-url is %q; the provider's expander is %s", url, want),
				"set --grpc-expander-url="+want,
			)
		}
		if a.Flags.Value("grpc-expander-cert", "") == "" {
			say(
				Error, "ExpanderUnreachable", "--grpc-expander-cert is not set: the expander speaks TLS alone",
				"set --grpc-expander-cert to ca.crt of Secret "+clientSecret,
			)
		}
	}
	for _, row := range []struct {
		flag      string
		otherwise string
		most      time.Duration
		what      string
	}{
		{"scan-interval", "10s", maxScanInterval, "a growth waits for the next loop"},
		{
			"initial-node-group-backoff-duration", "5m", maxBackoff,
			"after one failed call, also when the provider is being restarted, a pool is left alone for so long",
		},
	} {
		value, err := time.ParseDuration(a.Flags.Value(row.flag, row.otherwise))
		if err == nil && value > row.most {
			say(
				Warning, "IntervalTooLong", fmt.Sprintf("--%s is %s: %s", row.flag, value, row.what),
				fmt.Sprintf("set --%s to at most %s; see %s", row.flag, row.most, example),
			)
		}
	}
	if provision, err := time.ParseDuration(a.Flags.Value("max-node-provision-time", "15m")); err == nil {
		for i := range f.Pools {
			if timeout := f.Pools[i].Spec.ProvisionTimeout.Duration; timeout > provision {
				out = append(out, Finding{
					Warning, "ProvisionTimeoutTooLong", "NodePool " + f.Pools[i].Name,
					fmt.Sprintf(
						"spec.provisionTimeout is %s, and Cluster Autoscaler gives a machine up after --max-node-provision-time=%s", timeout, provision,
					),
					"raise --max-node-provision-time, or lower spec.provisionTimeout",
				})
			}
		}
	}
	return append(out, findCloudConfig(f, a)...)
}

// expander is what chooses among node groups.
func (a *Autoscaler) expander() string { return a.Flags.Value("expander", "least-waste") }

// usesExpander reports whether it asks the provider's expander first.
func (a *Autoscaler) usesExpander() bool {
	return a.expander() == "grpc" || strings.HasPrefix(a.expander(), "grpc,")
}

// findCloudConfig looks at the file by which it finds the provider.
func findCloudConfig(f *Facts, a *Autoscaler) []Finding {
	var out []Finding
	say := func(reason, object, message, remedy string) {
		out = append(out, Finding{Error, reason, object, message, remedy})
	}
	if a.Flags.Value("cloud-config", "") == "" {
		say(
			"CloudConfigWrong", a.object(), "it runs without --cloud-config: it does not know where the provider is",
			"mount the ConfigMap of "+example+" and name its file",
		)
		return out
	}
	if a.CloudConfig == nil {
		return out
	}
	object := "ConfigMap " + a.CloudConfig.ConfigMap
	name, number := fmt.Sprintf("%s.%s.svc", serviceProvider, f.Namespace), strconv.Itoa(int(f.portOf(serviceProvider)))
	host, port, err := net.SplitHostPort(a.CloudConfig.Address)
	if err != nil || strings.TrimSuffix(host, ".cluster.local") != name || port != number {
		want := net.JoinHostPort(name, number)
		say(
			"CloudConfigWrong", object,
			fmt.Sprintf("address is %q; the provider is %s, and its certificate is for that name", a.CloudConfig.Address, want),
			"set address to "+want,
		)
	}
	for _, file := range []struct{ name, value string }{
		{"cert", a.CloudConfig.Cert}, {"key", a.CloudConfig.Key}, {"cacert", a.CloudConfig.CACert},
	} {
		if file.value == "" {
			say(
				"CloudConfigWrong", object, file.name+" is empty: the provider answers none but the certificate of Cluster Autoscaler",
				"set cert, key and cacert to the files of Secret "+clientSecret,
			)
			break
		}
	}
	return out
}

// findState looks at whether it runs, and with the certificate of now.
func findState(f *Facts, a *Autoscaler) []Finding {
	var out []Finding
	if !a.Ready {
		out = append(out, Finding{
			Error, "AutoscalerNotReady", a.object(), strings.TrimSuffix("it is not Ready: "+a.Waits, ": "),
			fmt.Sprintf("kubectl --namespace %s describe pod %s", a.Namespace, a.Name),
		})
	}
	for _, name := range a.Secrets {
		secret := f.Secrets[a.Namespace+"/"+name]
		if name != clientSecret || secret == nil || len(secret.Certificate) == 0 || a.Restarts || a.StartedAt.IsZero() {
			continue
		}
		// What is issued begins a day before, as clocks differ: the age of the certificate is not that of its beginning.
		if issued := secret.Certificate[0].NotBefore.Add(skew); a.StartedAt.Before(issued) {
			out = append(out, Finding{
				Warning, "CertificateNotRead", a.object(),
				fmt.Sprintf(
					"it runs since %s and its certificate was renewed at %s: it reads it at its start alone", a.StartedAt.UTC().Format(time.RFC3339),
					issued.UTC().Format(time.RFC3339),
				),
				"restart it; run it by `provider until-changed` as in " + example + " and it is restarted by itself",
			})
		}
	}
	return out
}
