// Package budget bounds what strangers make a program ask of the API server, or write to it: per namespace, so that one tenant does not
// use up what another needs, and in all, so that many tenants together do not use up what the program itself needs.
package budget

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"golang.org/x/time/rate"
	"k8s.io/utils/lru"
)

// maxNamespaces is how many namespaces have a rate of their own. When there are more, the one that has not been heard of for longest is
// forgotten, and may begin again with all that one second allows; the bound in all holds for all of them.
const maxNamespaces = 4096

// Rate is how much there may be in a second in the long run. As much as in one second may come at once. 0 is no limit.
type Rate struct {
	// PerNamespace is what one namespace may cause, Total what all of them may together.
	PerNamespace, Total float64
}

// AddFlags adds --NAME-per-second and --NAME-per-second-in-all; what says what is counted.
func (r *Rate) AddFlags(flags *pflag.FlagSet, name, what string) {
	flags.Float64Var(&r.PerNamespace, name+"-per-second", r.PerNamespace, what+" in a second that one namespace may cause; 0 for no limit")
	flags.Float64Var(&r.Total, name+"-per-second-in-all", r.Total,
		what+" in a second that all namespaces may cause together; 0 for no limit")
}

// Validate says which flag of a name has a value that it cannot have.
func (r *Rate) Validate(name string) error {
	var faults []error
	for _, flag := range []struct {
		name  string
		value float64
	}{{name + "-per-second", r.PerNamespace}, {name + "-per-second-in-all", r.Total}} {
		if flag.value < 0 || math.IsNaN(flag.value) || math.IsInf(flag.value, 0) {
			faults = append(faults, fmt.Errorf("--%s is %g; it must be a number from 0 on", flag.name, flag.value))
		}
	}
	return errors.Join(faults...)
}

// The bounds by which something is turned away, as the metric tells them.
const (
	boundNamespace = "namespace"
	boundTotal     = "total"
)

// Metrics count what was turned away.
type Metrics struct{ turnedAway *prometheus.CounterVec }

// NewMetrics registers the metrics.
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{turnedAway: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ensemble_autoscaler_budget_exceeded_total",
		Help: "What was not asked of the API server, or not written to it at once, because too much was: " +
			"by budget, which has a flag of its name, and by the bound, that of one namespace or that in total.",
	}, []string{"budget", "bound"})}
	if err := registerer.Register(m.turnedAway); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

// Budget is what may be used in a second. It can be used by several goroutines at once.
type Budget struct {
	name string
	rate Rate

	mu         sync.Mutex
	total      *rate.Limiter
	namespaces *lru.Cache

	byNamespace, inTotal prometheus.Counter
}

// New returns a budget, of which flags and the metric have the name.
func New(name string, r Rate, m *Metrics) *Budget {
	return &Budget{
		name: name, rate: r, total: limiter(r.Total), namespaces: lru.New(maxNamespaces),
		byNamespace: m.turnedAway.WithLabelValues(name, boundNamespace), inTotal: m.turnedAway.WithLabelValues(name, boundTotal),
	}
}

// unlimited is the burst of a limiter that allows everything: of one without a limit the tokens are never more than the burst.
const unlimited = math.MaxInt32

func limiter(perSecond float64) *rate.Limiter {
	if perSecond <= 0 {
		return rate.NewLimiter(rate.Inf, unlimited)
	}
	return rate.NewLimiter(rate.Limit(perSecond), int(min(unlimited, max(1, math.Ceil(perSecond)))))
}

// Exceeded is the error of what a budget does not allow now and will in a moment. Its text has nothing of other namespaces.
type Exceeded struct {
	// Budget is its name, PerSecond what it allows.
	Budget    string
	PerSecond float64
	// Namespace is the one that has used up what it may, or an address that is in none; empty where all have together.
	Namespace string
}

func (e *Exceeded) Error() string {
	what, whose, flag := strings.ReplaceAll(e.Budget, "-", " "), "namespace "+e.Namespace+" causes", "--"+e.Budget+"-per-second"
	// The name of a namespace has neither.
	if strings.ContainsAny(e.Namespace, ".:") {
		whose = "address " + e.Namespace + " causes"
	}
	if e.Namespace == "" {
		whose, flag = "all namespaces together cause", flag+"-in-all"
	}
	return fmt.Sprintf("%s more than %g %s in a second (%s): try again in a moment", whose, e.PerSecond, what, flag)
}

// Take uses one up for a namespace, or for an address that is in none, at a time. The error is an Exceeded
// when there is none left. Of no budget everything is allowed.
func (b *Budget) Take(namespace string, now time.Time) error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	its := b.of(namespace)
	// A namespace that has used up its own part takes nothing of what the others may use.
	if its.TokensAt(now) < 1 {
		b.byNamespace.Inc()
		return &Exceeded{Budget: b.name, PerSecond: b.rate.PerNamespace, Namespace: namespace}
	}
	if !b.total.AllowN(now, 1) {
		b.inTotal.Inc()
		return &Exceeded{Budget: b.name, PerSecond: b.rate.Total}
	}
	its.AllowN(now, 1)
	return nil
}

// Left is whether there is one left for a namespace, without using it up or counting what is turned away.
func (b *Budget) Left(namespace string, now time.Time) bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.of(namespace).TokensAt(now) >= 1 && b.total.TokensAt(now) >= 1
}

func (b *Budget) of(namespace string) *rate.Limiter {
	if known, ok := b.namespaces.Get(namespace); ok {
		if its, ok := known.(*rate.Limiter); ok {
			return its
		}
	}
	its := limiter(b.rate.PerNamespace)
	b.namespaces.Add(namespace, its)
	return its
}
