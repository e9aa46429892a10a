package kwok

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// Codes of the outcomes of a launch.
const (
	codeOutOfStock = "OutOfStock"
	codeThrottled  = "Throttled"
	codeDomain     = "DomainUnknown"
	codeRefused    = "Refused"
)

// finalizer keeps an instance for which there was no stock, after the cloud has removed it, until it is let go by Terminate:
// else nobody would learn of it.
const finalizer = v1alpha1.Group + "/kwok-instance"

// annotationDomain on an instance is where it is, as KEY=VALUE.
const annotationDomain = v1alpha1.Group + "/domain"

// errReplyLost is the error of a launch that was carried out.
var errReplyLost = errors.New("the reply was lost (spec.machines.kwok.lostReplyPercent)")

// Launch implements launch.Launcher. An instance that exists for the same machine and token is accepted again.
func (l *Launcher) Launch(ctx context.Context, pool *launch.Pool, order *launch.Order) ([]launch.Outcome, error) {
	config, err := l.begin(ctx, pool)
	if throttled, ok := errors.AsType[*launch.ThrottledError](err); ok {
		return forAll(order, launch.Outcome{
			Kind: launch.Throttled, After: throttled.After, Code: codeThrottled,
			Message: "the simulated cloud asks to be asked later (spec.machines.kwok.throttlePercent)",
		}), nil
	}
	if err != nil {
		return nil, err
	}
	var decided answer
	if config.Stock != nil || isAtomic(pool, order) {
		l.selling.Lock()
		defer l.selling.Unlock()
		if decided, err = l.answerTo(ctx, pool, order); err != nil {
			return nil, err
		}
	}
	if decided.taken != "" {
		return forAll(order, nameTaken(decided.taken)), nil
	}
	outcomes, made, err := l.makeAll(ctx, pool, order, decided.short)
	if err != nil {
		return nil, fmt.Errorf("launch order %s of NodePool %s: %w", order.Token, pool.Name, err)
	}
	// Only who makes an instance loses the reply: a repetition finds it made, and gets through.
	if first := slices.Index(made, true); first >= 0 && replyLost(config, order.Machines[first].Name) {
		return nil, fmt.Errorf("launch order %s of NodePool %s: %w", order.Token, pool.Name, errReplyLost)
	}
	return outcomes, nil
}

func forAll(order *launch.Order, outcome launch.Outcome) []launch.Outcome {
	return slices.Repeat([]launch.Outcome{outcome}, len(order.Machines))
}

// makeAll makes what there is stock for, and says which instances were made now.
func (l *Launcher) makeAll(
	ctx context.Context, pool *launch.Pool, order *launch.Order, short map[string]bool,
) ([]launch.Outcome, []bool, error) {
	outcomes, made := make([]launch.Outcome, len(order.Machines)), make([]bool, len(order.Machines))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(inParallel)
	for i, machine := range order.Machines {
		group.Go(func() (err error) {
			outcomes[i], made[i], err = l.makeOne(ctx, pool, order, machine, short[machine.Name])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	return outcomes, made, nil
}

func (l *Launcher) makeOne(
	ctx context.Context, pool *launch.Pool, order *launch.Order, machine *v1alpha1.PoolMachine, short bool,
) (outcome launch.Outcome, made bool, err error) {
	config := pool.Machines.Kwok
	if short && config.Stockout != v1alpha1.KwokStockoutVanish {
		return launch.Outcome{Kind: launch.OutOfResources, Code: codeOutOfStock, Message: outOfStock(pool.Name)}, false, nil
	}
	instance, ok := l.instanceOf(pool, order, machine)
	if !ok {
		return launch.Outcome{
			Kind: launch.Invalid, Code: codeDomain,
			Message: fmt.Sprintf("the machines of NodePool %s are not in %s, by its template", pool.Name, order.Domain),
		}, false, nil
	}
	if short {
		instance.Spec.Fate, instance.Spec.BootDelay, instance.Spec.FateDelay = v1alpha1.FateOutOfStock, metav1.Duration{}, nil
		instance.Finalizers = []string{finalizer}
	}
	switch err := l.client.Create(ctx, instance); {
	case apierrors.IsAlreadyExists(err):
		outcome, err := l.existing(ctx, pool, order, machine.Name)
		return outcome, false, err
	case apierrors.IsInvalid(err):
		return launch.Outcome{Kind: launch.Invalid, Code: codeRefused, Message: err.Error()}, false, nil
	case err != nil:
		return launch.Outcome{}, false, fmt.Errorf("create KwokInstance %s: %w", instance.Name, err)
	}
	if !short && bringsOrphan(config, machine.Name) {
		if err := l.makeOrphan(ctx, pool, instance); err != nil {
			return launch.Outcome{}, true, err
		}
	}
	return acceptedAs(instance), true, nil
}

// existing is the outcome of a machine of whose name there is an instance.
func (l *Launcher) existing(ctx context.Context, pool *launch.Pool, order *launch.Order, machine string) (launch.Outcome, error) {
	var instance v1alpha1.KwokInstance
	name := InstanceName(pool, machine)
	if err := l.live.Get(ctx, client.ObjectKey{Name: name}, &instance); err != nil {
		return launch.Outcome{}, fmt.Errorf("get KwokInstance %s: %w", name, err)
	}
	if !isOurs(pool, order, machine, &instance) {
		return nameTaken(machine), nil
	}
	return acceptedAs(&instance), nil
}

func acceptedAs(instance *v1alpha1.KwokInstance) launch.Outcome {
	return launch.Outcome{Kind: launch.Accepted, ProviderID: knownProviderID(instance), Domain: instance.Annotations[annotationDomain]}
}

func nameTaken(machine string) launch.Outcome {
	return launch.Outcome{
		Kind: launch.Invalid, Code: launch.CodeNameTaken, Message: fmt.Sprintf(
			"an instance for machine %s exists that another order has made", machine,
		),
	}
}

// knownProviderID is the provider id of an instance, empty while the cloud does not tell it.
func knownProviderID(instance *v1alpha1.KwokInstance) string {
	if instance.Spec.Machines.ProviderIDs == v1alpha1.KwokProviderIDsAtRegistration && instance.Status.RegisteredAt == nil {
		return ""
	}
	return instance.Spec.ProviderID
}

// instanceOf is the instance of a machine. It is false for a domain that the template excludes.
func (l *Launcher) instanceOf(pool *launch.Pool, order *launch.Order, machine *v1alpha1.PoolMachine) (*v1alpha1.KwokInstance, bool) {
	config := pool.Machines.Kwok
	drawn := draw(config, machine.Name)
	name := InstanceName(pool, machine.Name)
	out := &v1alpha1.KwokInstance{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Labels:      map[string]string{v1alpha1.LabelNodePool: pool.Name, v1alpha1.LabelMachine: machine.Name},
			Annotations: map[string]string{},
		},
		Spec: v1alpha1.KwokInstanceSpec{
			Cluster: pool.Cluster, NodePool: pool.Name, Machine: machine.Name, Token: order.Token,
			ProviderID: ProviderID(pool.Name, name), NodeName: name,
			LaunchedAt: metav1.NewMicroTime(l.clock.Now()), BootDelay: metav1.Duration{Duration: drawn.bootDelay},
			Fate: drawn.kind, FateDelay: drawn.delay,
			Template: *machine.Spec.Template.DeepCopy(), Machines: *config.DeepCopy(),
		},
	}
	if config.NodeNames == v1alpha1.KwokNodeNamesOwn {
		out.Spec.NodeName = NodeName(name)
	}
	if machine.Spec.Purpose == v1alpha1.PurposeReservation {
		out.Annotations[v1alpha1.AnnotationReserved] = "true"
	}
	return out, order.Domain == "" || putInto(out, order.Domain)
}

// putInto puts an instance into a domain: its node has the label of it. It is false where the template names another one.
func putInto(instance *v1alpha1.KwokInstance, domain string) bool {
	key, value, _ := strings.Cut(domain, "=")
	if has, ok := instance.Spec.Template.Labels[key]; ok && has != value {
		return false
	}
	if instance.Spec.Template.Labels == nil {
		instance.Spec.Template.Labels = map[string]string{}
	}
	instance.Spec.Template.Labels[key] = value
	instance.Annotations[annotationDomain] = domain
	return true
}

// makeOrphan makes one more instance beside another, which bears the mark of the pool and that of no machine.
func (l *Launcher) makeOrphan(ctx context.Context, pool *launch.Pool, beside *v1alpha1.KwokInstance) error {
	orphan := &v1alpha1.KwokInstance{
		ObjectMeta: metav1.ObjectMeta{
			Name: orphanName(pool, beside.Spec.Machine), Labels: map[string]string{v1alpha1.LabelNodePool: pool.Name},
		},
		Spec: *beside.Spec.DeepCopy(),
	}
	orphan.Spec.Machine, orphan.Spec.Token = "", ""
	orphan.Spec.ProviderID, orphan.Spec.NodeName = ProviderID(pool.Name, orphan.Name), NodeName(orphan.Name)
	if err := l.client.Create(ctx, orphan); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create KwokInstance %s: %w", orphan.Name, err)
	}
	return nil
}

func outOfStock(pool string) string {
	return "the simulated cloud has no machine left for NodePool " + pool + " (spec.machines.kwok.stock)"
}
