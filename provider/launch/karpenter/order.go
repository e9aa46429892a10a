package karpenter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// Codes of the outcomes of a launch.
const (
	codeDomain  = "DomainUnknown"
	codeRefused = "Refused"
)

// Launch implements launch.Launcher: it creates a claim for each machine. Whether there is a machine for it Karpenter tells later. The
// provider id is never told here, since a repetition has to have the same outcome.
func (l *Launcher) Launch(ctx context.Context, pool *launch.Pool, order *launch.Order) ([]launch.Outcome, error) {
	if pool.Machines.Karpenter == nil {
		return nil, fmt.Errorf("NodePool %s: %w", pool.Name, errNoConfig)
	}
	outcomes := make([]launch.Outcome, len(order.Machines))
	group, inGroup := errgroup.WithContext(ctx)
	group.SetLimit(inParallel)
	for i, machine := range order.Machines {
		group.Go(func() (err error) {
			outcomes[i], err = l.create(inGroup, pool, order, machine)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("launch order %s of NodePool %s: %w", order.Token, pool.Name, err)
	}
	return outcomes, nil
}

func (l *Launcher) create(
	ctx context.Context, pool *launch.Pool, order *launch.Order, machine *v1alpha1.PoolMachine,
) (launch.Outcome, error) {
	claim, err := claimFor(pool.Cluster, pool.Name, order.Token, order.Domain, machine, pool.Machines.Karpenter)
	if err != nil {
		return launch.Outcome{Kind: launch.Invalid, Code: codeDomain, Message: fmt.Sprintf("NodePool %s: %v", pool.Name, err)}, nil
	}
	switch err := l.client.Create(ctx, claim); {
	case apierrors.IsAlreadyExists(err):
		return l.existing(ctx, pool, order, machine.Name)
	case apierrors.IsInvalid(err), denied(err):
		return launch.Outcome{
			Kind: launch.Invalid, Code: codeRefused, Message: cut("the NodeClaim was refused: "+err.Error(), longestMessage),
		}, nil
	case err != nil:
		return launch.Outcome{}, fmt.Errorf("create NodeClaim %s: %w", machine.Name, err)
	}
	return launch.Outcome{Kind: launch.Accepted, Domain: order.Domain}, nil
}

// denied reports whether admission has refused a claim for what it is: a webhook, or a policy. Their words are those of k8s.io/apiserver
// (plugin/webhook/errors/statuserror.go, plugin/policy/validating/dispatcher.go). Another Forbidden, such as a right that is missing or
// an API server that has just started, is nothing that the claim is the reason of.
func denied(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Code >= http.StatusInternalServerError {
		return false
	}
	return strings.Contains(err.Error(), "denied the request") || strings.Contains(err.Error(), "denied request")
}

// existing is the outcome of a machine of whose name there is a claim.
func (l *Launcher) existing(ctx context.Context, pool *launch.Pool, order *launch.Order, machine string) (launch.Outcome, error) {
	var claim NodeClaim
	if err := l.live.Get(ctx, client.ObjectKey{Name: machine}, &claim); err != nil {
		return launch.Outcome{}, fmt.Errorf("get NodeClaim %s: %w", machine, err)
	}
	if !isOfPool(pool, &claim) || claim.Labels[v1alpha1.LabelMachine] != machine || claim.Annotations[annotationOrder] != order.Token {
		return launch.Outcome{
			Kind: launch.Invalid, Code: launch.CodeNameTaken,
			Message: fmt.Sprintf("a NodeClaim %s exists that another order, or a user, has made", machine),
		}, nil
	}
	return launch.Outcome{Kind: launch.Accepted, Domain: claim.Annotations[annotationDomain]}, nil
}

// isOfPool reports whether a claim bears the marks of the cluster and the pool.
func isOfPool(pool *launch.Pool, claim *NodeClaim) bool {
	return claim.Annotations[annotationCluster] == pool.Cluster && claim.Labels[v1alpha1.LabelNodePool] == pool.Name
}

func cutDomain(domain string) (key, value string) {
	key, value, _ = strings.Cut(domain, "=")
	return key, value
}
