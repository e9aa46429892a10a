// Package certificates makes the certificates of a server and, where it has one, of its one client, in two Secrets, and
// renews them: the leader of several replicas issues, and every replica serves with what it sees in the server's Secret.
//
// The server's Secret holds the authority with its key, and the server's certificate with its key. The client's Secret
// holds the client's certificate and key, and the authorities to trust; it can be mounted by the client as it is. All
// state is in these two, so that a pass can be cut off anywhere: the next one sees what is missing.
package certificates

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/mutualtls"
)

// Options say which certificates there are to be, and where.
type Options struct {
	// ServerSecret is where the authority and the server's certificate are, ClientSecret where the client's is. Without a
	// name of the latter no client is issued one.
	ServerSecret, ClientSecret types.NamespacedName
	// ServerNames are the DNS names and IP addresses that the server's certificate is for, at least one.
	ServerNames []string
	// ClientName is the common name of the client's certificate.
	ClientName string
	Lifetimes  Lifetimes
	// Webhooks names the ValidatingWebhookConfigurations and MutatingWebhookConfigurations whose webhooks are told to trust the
	// authorities. Of a name there may be both, one or none.
	Webhooks []string
	// Security is what every replica serves with.
	Security *mutualtls.Security
	// Client writes Secrets.
	Client client.Client
	Events events.EventRecorder
	Clock  clock.PassiveClock
}

// AddToManager adds what issues to the leader, and what reads the server's certificate to every replica. Each of the
// Secrets is watched alone, by its name, so that no right to see others is needed.
func AddToManager(mgr manager.Manager, options Options) error {
	server, err := watchSecret(mgr, options.ServerSecret)
	if err != nil {
		return err
	}
	reader := &reader{server: server, key: options.ServerSecret, security: options.Security}
	if err := addController(mgr, "certificate-reader", false, reader, secretsOf(server)); err != nil {
		return err
	}
	issuer := &issuer{Options: options, server: server}
	sources := []source.Source{secretsOf(server)}
	if options.ClientSecret.Name != "" {
		client, err := watchSecret(mgr, options.ClientSecret)
		if err != nil {
			return err
		}
		issuer.client = client
		sources = append(sources, secretsOf(client))
	}
	for _, name := range options.Webhooks {
		webhooks, err := watch(mgr, name, nil)
		if err != nil {
			return err
		}
		issuer.webhooks = append(issuer.webhooks, configurations{webhooks, name})
		sources = append(sources,
			source.Kind(
				webhooks, &admissionregistrationv1.ValidatingWebhookConfiguration{}, once[*admissionregistrationv1.ValidatingWebhookConfiguration](),
			),
			source.Kind(
				webhooks, &admissionregistrationv1.MutatingWebhookConfiguration{}, once[*admissionregistrationv1.MutatingWebhookConfiguration](),
			))
	}
	return addController(mgr, "certificate-issuer", true, issuer, sources...)
}

func secretsOf(c cache.Cache) source.Source {
	return source.Kind(c, &corev1.Secret{}, once[*corev1.Secret]())
}

// once leads from every object to the one request that there is.
func once[T client.Object]() handler.TypedEventHandler[T, reconcile.Request] {
	return handler.TypedEnqueueRequestsFromMapFunc(func(context.Context, T) []reconcile.Request { return []reconcile.Request{{}} })
}

// watched is a cache that the manager fills before any controller runs.
type watched struct{ cache.Cache }

// GetCache tells the manager so.
func (w watched) GetCache() cache.Cache { return w.Cache }

func watchSecret(mgr manager.Manager, key types.NamespacedName) (cache.Cache, error) {
	return watch(mgr, key.Name, map[string]cache.Config{key.Namespace: {}})
}

// watch is a cache of the objects of that name, in namespaces where they have any.
func watch(mgr manager.Manager, name string, namespaces map[string]cache.Config) (cache.Cache, error) {
	c, err := cache.New(mgr.GetConfig(), cache.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(),
		DefaultNamespaces:    namespaces,
		DefaultFieldSelector: fields.OneTermEqualSelector("metadata.name", name),
	})
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", name, err)
	}
	if err := mgr.Add(watched{c}); err != nil {
		return nil, fmt.Errorf("watch %s: %w", name, err)
	}
	return c, nil
}

// addController runs a reconciler at the start, when nothing has happened yet, and whenever something changes.
func addController(mgr manager.Manager, name string, leads bool, r reconcile.Reconciler, changes ...source.Source) error {
	c, err := controller.New(name, mgr, controller.Options{Reconciler: r, NeedLeaderElection: &leads})
	if err != nil {
		return fmt.Errorf("set up %s: %w", name, err)
	}
	sources := []source.Source{source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		queue.Add(reconcile.Request{})
		return nil
	})}
	for _, s := range append(sources, changes...) {
		if err := c.Watch(s); err != nil {
			return fmt.Errorf("set up %s: %w", name, err)
		}
	}
	return nil
}

// reader serves with what is in the server's Secret.
type reader struct {
	server   client.Reader
	key      types.NamespacedName
	security *mutualtls.Security
}

// Reconcile implements reconcile.Reconciler. A Secret that is missing or broken changes nothing: the leader brings it
// in order, and until then the server goes on with what it had.
func (r *reader) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	var secret corev1.Secret
	if err := r.server.Get(ctx, r.key, &secret); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	err := r.security.Use(
		mutualtls.Material{Certificate: secret.Data[keyCertificate], Key: secret.Data[keyKey], Authorities: secret.Data[keyTrusted]},
	)
	if err != nil {
		log.FromContext(ctx).Info(
			"Cannot serve with what is in the Secret; what was in force stays", "secret", r.key.String(), "why", err.Error(),
		)
	}
	return reconcile.Result{}, nil
}

// issuer brings both Secrets in order.
type issuer struct {
	Options
	server, client client.Reader
	webhooks       []configurations
}

// configurations are the ValidatingWebhookConfiguration and the MutatingWebhookConfiguration of one name, where there are any.
type configurations struct {
	client.Reader
	name string
}

const (
	// longest is the time between two looks at the most. The time of the wall may jump.
	longest = time.Hour
	// again is when to look after somebody else has written at the same time.
	again = 100 * time.Millisecond
)

// Reconcile implements reconcile.Reconciler: the server's Secret, then the client's, which the authority that is
// stored by then signs.
func (i *issuer) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	now := i.Clock.Now()
	var server, client corev1.Secret
	if err := get(ctx, i.server, i.ServerSecret, &server); err != nil {
		return reconcile.Result{}, err
	}
	serverRenewal, authority, err := renewServer(server.Data, i.ServerNames, now, i.Lifetimes)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("renew the certificate of Secret %s: %w", i.ServerSecret, err)
	}
	if stale, err := i.store(ctx, &server, serverRenewal); stale || err != nil {
		return reconcile.Result{RequeueAfter: again}, err
	}
	if err := i.inject(ctx, serverRenewal.data[keyTrusted]); err != nil {
		return reconcile.Result{}, err
	}
	due := serverRenewal.due
	if i.client == nil {
		return i.again(due, now), nil
	}
	if err := get(ctx, i.client, i.ClientSecret, &client); err != nil {
		return reconcile.Result{}, err
	}
	clientRenewal, err := renewClient(client.Data, authority, i.ClientName, now, i.Lifetimes)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("renew the certificate of Secret %s: %w", i.ClientSecret, err)
	}
	if stale, err := i.store(ctx, &client, clientRenewal); stale || err != nil {
		return reconcile.Result{RequeueAfter: again}, err
	}
	if clientRenewal.due.Before(due) {
		due = clientRenewal.due
	}
	return i.again(due, now), nil
}

func (*issuer) again(due, now time.Time) reconcile.Result {
	return reconcile.Result{RequeueAfter: min(longest, max(again, due.Sub(now)))}
}

// inject tells the webhooks whom to trust. A configuration that is not there yet brings a pass when it comes.
func (i *issuer) inject(ctx context.Context, trusted []byte) error {
	var problems []error
	for _, from := range i.webhooks {
		validating, mutating := &admissionregistrationv1.ValidatingWebhookConfiguration{}, &admissionregistrationv1.MutatingWebhookConfiguration{}
		problems = append(problems,
			i.injectInto(ctx, from, validating, trusted, func() (configs []*admissionregistrationv1.WebhookClientConfig) {
				for n := range validating.Webhooks {
					configs = append(configs, &validating.Webhooks[n].ClientConfig)
				}
				return configs
			}),
			i.injectInto(ctx, from, mutating, trusted, func() (configs []*admissionregistrationv1.WebhookClientConfig) {
				for n := range mutating.Webhooks {
					configs = append(configs, &mutating.Webhooks[n].ClientConfig)
				}
				return configs
			}))
	}
	return errors.Join(problems...)
}

// injectInto reads one configuration and writes it where its webhooks, which are asked for when it was read, trust others.
func (i *issuer) injectInto(
	ctx context.Context, from configurations, configuration client.Object, trusted []byte,
	webhooks func() []*admissionregistrationv1.WebhookClientConfig,
) error {
	if err := from.Get(ctx, types.NamespacedName{Name: from.name}, configuration); err != nil {
		return client.IgnoreNotFound(err)
	}
	before, is := configuration.DeepCopyObject().(client.Object)
	if !is {
		return fmt.Errorf("copy the %T %s", configuration, from.name)
	}
	changed := false
	for _, config := range webhooks() {
		if !bytes.Equal(config.CABundle, trusted) {
			config.CABundle, changed = trusted, true
		}
	}
	if !changed {
		return nil
	}
	kind := strings.TrimPrefix(fmt.Sprintf("%T", configuration), "*v1.")
	// Webhooks are a list: another writer's changes would be lost without the version.
	err := i.Client.Patch(ctx, configuration, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	switch {
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		// Its change brings another pass.
		return nil
	case err != nil:
		return fmt.Errorf("write the authorities into %s %s: %w", kind, from.name, err)
	}
	log.FromContext(ctx).Info("Told the API server which authorities vouch for the webhooks", "kind", kind, "configuration", from.name)
	return nil
}

// get reads a Secret. One that is not there is empty, with its name.
func get(ctx context.Context, from client.Reader, key types.NamespacedName, secret *corev1.Secret) error {
	if err := from.Get(ctx, key, secret); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read Secret %s: %w", key, err)
	}
	secret.Namespace, secret.Name = key.Namespace, key.Name
	return nil
}

// store writes a renewal, if there is anything to write. stale is set when the Secret is not any more as it was read.
func (i *issuer) store(ctx context.Context, secret *corev1.Secret, r *renewal) (stale bool, err error) {
	log := log.FromContext(ctx).WithValues("secret", secret.Namespace+"/"+secret.Name)
	if len(r.early) > 0 {
		early := strings.Join(r.early, "; ")
		log.Info("The clock of this replica is behind; what is not valid yet is kept",
			"now", i.Clock.Now().UTC().Format(time.RFC3339), "why", early)
		if secret.ResourceVersion != "" {
			i.Events.Eventf(secret, nil, corev1.EventTypeWarning, "NotValidYet", "Issue",
				"the clock of the replica that issues certificates, or of the one that did, is wrong; what is not valid yet is kept: %s", early)
		}
	}
	if !r.changed() {
		return false, nil
	}
	secret.Data = r.data
	if secret.ResourceVersion == "" {
		secret.Type = corev1.SecretTypeTLS
		err = i.Client.Create(ctx, secret)
	} else {
		err = i.Client.Update(ctx, secret)
	}
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		log.V(1).Info("The Secret was written by another at the same time", "why", err.Error())
		return true, nil
	case apierrors.IsForbidden(err) && secret.ResourceVersion == "":
		return false, fmt.Errorf(
			"create Secret %s/%s (where that is not granted, an empty one has to be there): %w", secret.Namespace, secret.Name, err,
		)
	case err != nil:
		return false, fmt.Errorf("write Secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	log.Info("Issued", "why", r.reason())
	reason := "CertificateIssued"
	if r.replaced {
		reason = "AuthorityReplaced"
	}
	i.Events.Eventf(secret, nil, corev1.EventTypeNormal, reason, "Issue", "%s", r.reason())
	return false, nil
}
