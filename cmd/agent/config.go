package main

import (
	"errors"
	"path/filepath"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/flaggroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/program"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/report"
)

// config is what the agent can be told.
type config struct {
	endpoint        report.Options
	flux            string
	progress        string
	programDeadline time.Duration
	verbosity       int
}

// The groups of flags.
const (
	groupEndpoint = "Endpoint"
	groupQueue    = "Queue"
)

// addFlags gives a command the flags, in groups.
func (c *config) addFlags(cmd *cobra.Command) {
	sets := flaggroup.New(groupEndpoint, flaggroup.TLS, groupQueue, flaggroup.General)
	c.addEndpoint(sets.Of(groupEndpoint), sets.Of(flaggroup.TLS))
	c.addQueue(sets.Of(groupQueue))
	sets.Of(groupQueue).DurationVar(
		&c.programDeadline, "program-deadline", program.DefaultDeadline, "how long the program of a custom action may run before it is killed",
	)
	sets.Of(groupQueue).StringVar(
		&c.progress, "progress-file", "",
		"file for what became of requests, so that a restart does not make them again; without it agent-progress.json beside the socket of "+
			"the broker",
	)
	sets.Of(flaggroup.General).IntVarP(&c.verbosity, "verbosity", "v", 0, "0 logs what is done, more logs more")
	sets.AddTo(cmd, false)
}

func (c *config) addEndpoint(endpoint, tls *pflag.FlagSet) {
	endpoint.StringVar(
		&c.endpoint.Address, "endpoint", "",
		"HOST:PORT of the controller's ensemble endpoint; without it rules that grow or shrink are not run, and nothing is reported",
	)
	endpoint.StringVar(&c.endpoint.Name, "name", "", "name of the member: that of its MiniCluster, without the namespace")
	endpoint.StringVar(&c.endpoint.Member, "member", "miniclusters", "what the endpoint calls the kind of the member")
	security := &c.endpoint.Security
	tls.BoolVar(&security.TLS, "tls", false, "speak TLS with the endpoint; --tls-ca-file has it too")
	tls.StringVar(
		&security.CAFile, "tls-ca-file", "", "authorities that the certificate of the endpoint may be of, PEM; without it those of the system",
	)
	tls.StringVar(&security.ServerName, "tls-server-name", "", "name that the certificate has to be for; without it the host of --endpoint")
	tls.StringVar(&security.CertFile, "tls-cert-file", "", "certificate to show to the endpoint, PEM")
	tls.StringVar(&security.KeyFile, "tls-key-file", "", "private key of the certificate, PEM")
	tls.StringVar(&security.TokenFile, "token-file", "", "token of a ServiceAccount to send with each call")
}

func (c *config) addQueue(queue *pflag.FlagSet) {
	queue.StringVar(&c.flux, "flux-uri", "", "address of the broker, local://PATH; without it the value of "+flux.EnvURI)
}

func (c *config) check() error {
	if c.endpoint.Address == "" {
		if c.endpoint.Name != "" || c.endpoint.Security != (report.Security{}) {
			return errors.New("--name and the flags of TLS are of use with --endpoint only")
		}
		return nil
	}
	if c.endpoint.Name == "" {
		return errors.New("--name is empty; with --endpoint it has to be the name of the MiniCluster")
	}
	return nil
}

// connect makes a client of the broker, which does not connect yet.
func (c *config) connect() (*flux.Client, error) { return flux.New(flux.Options{URI: c.flux}) }

func (c *config) progressFile(client *flux.Client) string {
	if c.progress != "" {
		return c.progress
	}
	return filepath.Join(filepath.Dir(client.Path()), "agent-progress.json")
}

func closeAnd(log logr.Logger, what string, end func() error) {
	if err := end(); err != nil {
		log.Error(err, "Could not close "+what)
	}
}
