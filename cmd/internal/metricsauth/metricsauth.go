// Package metricsauth keeps metrics, which name pools, namespaces and members, for those who may read them: the API server is asked whose
// token comes with a request, and whether that one may get the path. It is what controller-runtime's filter does, without the packages of
// the API server that this takes, and with a bound on what strangers make it ask.
package metricsauth

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"golang.org/x/time/rate"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/util/cert"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/budget"
)

// Authorization says who may read the metrics, which name pools, namespaces and members.
type Authorization struct {
	// Required is to serve them over TLS alone, to those who send a token that the API server knows and who may get the path.
	Required bool
}

// AddFlags declares the flag.
func (a *Authorization) AddFlags(flags *pflag.FlagSet) {
	flags.BoolVar(&a.Required, "metrics-authorization", a.Required,
		"serve metrics over TLS, and to those alone whose ServiceAccount token the API server accepts and who may get the nonResourceURL "+
			"/metrics "+
			"(manifests/components/metrics-auth); without it everybody who reaches the port may read them")
}

const (
	// reviewedFor is how long an answer of the API server holds. Prometheus asks every 15 s or more rarely.
	reviewedFor = time.Minute
	// maxReviewed is how many answers are remembered.
	maxReviewed = 256
	// maxTokenBytes bounds what is sent to the API server. Real tokens have about 1 KiB.
	maxTokenBytes = 8 << 10
	// maxAddresses is how many addresses have a rate of their own of requests that are refused: refusedPerSecond in the long run,
	// refusedBurst at once. Each costs the API server a review or two; one that is accepted takes nothing away.
	maxAddresses     = 4096
	refusedPerSecond = 0.2
	refusedBurst     = 10
	// reviewsPerSecond and reviewsBurst are how often the API server is asked in all: strangers may have many addresses.
	reviewsPerSecond = 20
	reviewsBurst     = 40
)

// Guard puts the question who asks before the handler of metrics. reviews is a client that may create TokenReviews and
// SubjectAccessReviews.
func (a *Authorization) Guard(
	next http.Handler, reviews client.Client, clock clock.PassiveClock, registerer prometheus.Registerer, log logr.Logger,
) (http.Handler, error) {
	if !a.Required {
		return next, nil
	}
	g := &guard{
		next: next, reviews: reviews, clock: clock, log: log,
		reviewed: lru.New(maxReviewed), attempts: lru.New(maxAddresses), inAll: rate.NewLimiter(reviewsPerSecond, reviewsBurst),
	}
	g.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ensemble_autoscaler_metrics_refused_total",
		Help: "Requests for metrics that were refused, by the HTTP status of the answer.",
	}, []string{"code"})
	for _, code := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests} {
		g.refused.WithLabelValues(fmt.Sprint(code))
	}
	if err := registerer.Register(g.refused); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return g, nil
}

// TLS is how the port of metrics speaks: with a certificate that nobody has signed, made at each start, so that a token is not sent in
// plain; who scrapes has no way of knowing whom it sends it to, and should have a ServiceAccount that may do nothing else.
func (*Authorization) TLS() (*tls.Config, error) {
	certificate, key, err := cert.GenerateSelfSignedCertKey("localhost", nil, nil)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for metrics: %w", err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for metrics: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}, nil
}

type guard struct {
	next    http.Handler
	reviews client.Client
	clock   clock.PassiveClock
	log     logr.Logger
	refused *prometheus.CounterVec

	mu       sync.Mutex
	reviewed *lru.Cache
	// attempts are the rates of refusals, by address.
	attempts *lru.Cache
	// inAll is the rate of questions to the API server.
	inAll *rate.Limiter
}

// answered is what the API server has said of a token and a path, and until when that holds.
type answered struct {
	code  int
	until time.Time
}

// ServeHTTP implements http.Handler.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, is := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	code, err := http.StatusUnauthorized, error(nil)
	if is && token != "" && len(token) <= maxTokenBytes {
		code, err = g.judge(r.Context(), r.RemoteAddr, token, r.URL.Path)
	}
	switch {
	case err != nil:
		g.log.Error(err, "Cannot find out who asks for metrics")
		http.Error(w, "the API server cannot be asked who you are", http.StatusInternalServerError)
		return
	case code == http.StatusOK:
		g.next.ServeHTTP(w, r)
		return
	}
	g.refused.WithLabelValues(fmt.Sprint(code)).Inc()
	http.Error(w, map[int]string{
		http.StatusUnauthorized:    "the header Authorization has to be Bearer TOKEN, with the token of a ServiceAccount",
		http.StatusForbidden:       "the ServiceAccount may not get " + Path + ": bind it to the ClusterRole ensemble-autoscaler-metrics-reader",
		http.StatusTooManyRequests: "too many tokens were refused to your address; try again in a minute",
	}[code], code)
}

// Path is that of metrics.
const Path = "/metrics"

// judge is the HTTP status for a token that comes from an address, and a path.
func (g *guard) judge(ctx context.Context, from, token, path string) (int, error) {
	// The token itself is not kept.
	key := sha256.Sum256([]byte(path + "\x00" + token))
	now := g.clock.Now()
	g.mu.Lock()
	if known, ok := g.reviewed.Get(key); ok {
		if a, ok := known.(answered); ok && now.Before(a.until) {
			g.mu.Unlock()
			return a.code, nil
		}
	}
	// It is taken before the API server is asked, so that those who ask at the same time take one each, and given back to who may read.
	its := g.attemptsOf(from)
	attempt := its.ReserveN(now, 1)
	if attempt.DelayFrom(now) > 0 || !g.inAll.AllowN(now, 1) {
		attempt.CancelAt(now)
		g.mu.Unlock()
		return http.StatusTooManyRequests, nil
	}
	g.mu.Unlock()
	code, err := g.review(ctx, token, path)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		attempt.CancelAt(now)
		return 0, err
	}
	if code == http.StatusOK {
		attempt.CancelAt(now)
		// What anybody can make up is not remembered: it would take the place of what is right.
		g.reviewed.Add(key, answered{code, now.Add(reviewedFor)})
	}
	return code, nil
}

// attemptsOf is the rate of an address.
func (g *guard) attemptsOf(from string) *rate.Limiter {
	host := budget.Source(from)
	if known, ok := g.attempts.Get(host); ok {
		if its, ok := known.(*rate.Limiter); ok {
			return its
		}
	}
	its := rate.NewLimiter(refusedPerSecond, refusedBurst)
	g.attempts.Add(host, its)
	return its
}

// review asks the API server whose token it is and whether that one may get a path.
func (g *guard) review(ctx context.Context, token, path string) (int, error) {
	who := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
	if err := g.reviews.Create(ctx, who); err != nil {
		return 0, fmt.Errorf("have a token reviewed: %w", err)
	}
	if !who.Status.Authenticated {
		return http.StatusUnauthorized, nil
	}
	user, extra := &who.Status.User, map[string]authorizationv1.ExtraValue{}
	if user.Username == "" {
		return 0, errors.New("the API server accepts a token and does not say whose it is")
	}
	for key, values := range user.Extra {
		extra[key] = authorizationv1.ExtraValue(values)
	}
	may := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: path, Verb: "get"},
	}}
	if err := g.reviews.Create(ctx, may); err != nil {
		return 0, fmt.Errorf("ask whether %s may read metrics: %w", user.Username, err)
	}
	if !may.Status.Allowed {
		return http.StatusForbidden, nil
	}
	return http.StatusOK, nil
}
