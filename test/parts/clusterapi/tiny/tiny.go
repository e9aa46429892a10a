// Package tiny stands in for an infrastructure provider and a bootstrap provider of Cluster API, such as those of OpenStack and kubeadm:
// the smallest that follow the contract v1beta2. The instances of a TinyMachine are nothing but the Node that one registers, which the
// kwok controller then keeps Ready. Cluster API's own controllers beside it are the real ones.
//
// What may be said of instances, in spec.template.spec of a TinyMachineTemplate:
//
//   - bootDelay: how long after it was made its Node registers; "" for at once, "never" for not at all
//   - labels, taints, capacity, allocatable: what the Node registers with, as a bootstrap would say
//   - fail: {reason, message}: it is never made, and says so in its condition Ready
//
// and in spec of the template itself, stock: how many instances there may be of it at a time. Without stock one that is lacking says
// InsufficientInstanceCapacity, and is made as soon as there is some, as real providers do that try again for ever.
package tiny

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// Definitions are those of its kinds, as YAML.
//
//go:embed definitions.yaml
var Definitions []byte

// Group is the API group of its kinds, version that of all.
const (
	Group   = "tiny.example.com"
	version = "v1"
)

const (
	finalizer = Group + "/instance"
	// clonedFrom names the template that a machine was cloned from (api/core/v1beta2 of Cluster API).
	clonedFrom = "cluster.x-k8s.io/cloned-from-name"
	// lookAgain is how often it is looked whether there is stock now.
	lookAgain = 200 * time.Millisecond
	never     = "never"
)

// New is an empty object of one of its kinds.
func New(kind string) *unstructured.Unstructured {
	out := &unstructured.Unstructured{}
	out.SetGroupVersionKind(schema.GroupVersionKind{Group: Group, Version: version, Kind: kind})
	return out
}

// Machines brings TinyMachines to pass. One worker does, so that no instance of a stock is sold twice.
type Machines struct {
	// Client writes where the Machines are, Live reads from the API server there.
	Client client.Client
	Live   client.Reader
	// Nodes writes where the nodes are.
	Nodes client.Client
}

// SetupWithManager starts it with a manager of the cluster that the Machines are in, and a bootstrap beside it.
func (m *Machines) SetupWithManager(mgr manager.Manager) error {
	if err := ctrl.NewControllerManagedBy(mgr).Named("tinymachine").For(New("TinyMachine")).
		WithOptions(controller.Options{SkipNameValidation: new(true)}).Complete(m); err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).Named("tinyconfig").For(New("TinyConfig")).
		WithOptions(controller.Options{SkipNameValidation: new(true)}).Complete(&configs{m.Client, m.Live})
}

// instance is what is said of an instance.
type instance struct {
	ProviderID  string              `json:"providerID,omitempty"`
	BootDelay   string              `json:"bootDelay,omitempty"`
	Labels      map[string]string   `json:"labels,omitempty"`
	Taints      []corev1.Taint      `json:"taints,omitempty"`
	Capacity    corev1.ResourceList `json:"capacity,omitempty"`
	Allocatable corev1.ResourceList `json:"allocatable,omitempty"`
	Fail        *struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
	} `json:"fail,omitempty"`
}

// Reconcile implements reconcile.Reconciler.
func (m *Machines) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	machine := New("TinyMachine")
	if err := m.Live.Get(ctx, request.NamespacedName, machine); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	var of instance
	if err := convert(machine.Object["spec"], &of); err != nil {
		return ctrl.Result{}, err
	}
	if machine.GetDeletionTimestamp() != nil {
		// The instance is off. Its Node is Cluster API's to delete, or whose Cluster API leaves it to.
		if controllerutil.RemoveFinalizer(machine, finalizer) {
			return ctrl.Result{}, client.IgnoreNotFound(m.Client.Update(ctx, machine))
		}
		return ctrl.Result{}, nil
	}
	if metav1.GetControllerOf(machine) == nil {
		return ctrl.Result{}, nil // Without a Machine that owns it nothing is made, by the contract.
	}
	if controllerutil.AddFinalizer(machine, finalizer) {
		return ctrl.Result{}, m.Client.Update(ctx, machine)
	}
	if of.Fail != nil {
		return ctrl.Result{}, m.say(ctx, machine, metav1.ConditionFalse, of.Fail.Reason, of.Fail.Message)
	}
	if of.ProviderID == "" {
		return m.buy(ctx, machine)
	}
	return m.boot(ctx, machine, &of)
}

// buy makes the instance, if there is one left.
func (m *Machines) buy(ctx context.Context, machine *unstructured.Unstructured) (ctrl.Result, error) {
	left, err := m.left(ctx, machine)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !left {
		return ctrl.Result{RequeueAfter: lookAgain}, m.say(ctx, machine, metav1.ConditionFalse, "InsufficientInstanceCapacity",
			"we currently do not have sufficient capacity for instances of "+machine.GetAnnotations()[clonedFrom])
	}
	id := "tiny://" + machine.GetNamespace() + "/" + string(machine.GetUID())
	if err := unstructured.SetNestedField(machine.Object, id, "spec", "providerID"); err != nil {
		return ctrl.Result{}, err
	}
	if err := unstructured.SetNestedField(machine.Object, true, "status", "initialization", "provisioned"); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, m.say(ctx, machine, metav1.ConditionTrue, "Ready", "")
}

// left reports whether there is an instance left for a machine.
func (m *Machines) left(ctx context.Context, machine *unstructured.Unstructured) (bool, error) {
	from := machine.GetAnnotations()[clonedFrom]
	if from == "" {
		return true, nil
	}
	template := New("TinyMachineTemplate")
	if err := m.Live.Get(ctx, client.ObjectKey{Namespace: machine.GetNamespace(), Name: from}, template); err != nil {
		return true, client.IgnoreNotFound(err)
	}
	stock, limited, err := unstructured.NestedInt64(template.Object, "spec", "stock")
	if err != nil || !limited {
		return true, err
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(machine.GroupVersionKind().GroupVersion().WithKind("TinyMachineList"))
	if err := m.Live.List(ctx, list, client.InNamespace(machine.GetNamespace())); err != nil {
		return false, err
	}
	sold := int64(0)
	for i := range list.Items {
		id, _, _ := unstructured.NestedString(list.Items[i].Object, "spec", "providerID")
		if id != "" && list.Items[i].GetAnnotations()[clonedFrom] == from {
			sold++
		}
	}
	return sold < stock, nil
}

// boot lets the instance register its Node when it has booted.
func (m *Machines) boot(ctx context.Context, machine *unstructured.Unstructured, of *instance) (ctrl.Result, error) {
	if of.BootDelay == never {
		return ctrl.Result{}, nil
	}
	if of.BootDelay != "" {
		delay, err := time.ParseDuration(of.BootDelay)
		if err != nil {
			return ctrl.Result{}, err
		}
		if wait := time.Until(machine.GetCreationTimestamp().Add(delay)); wait > 0 {
			return ctrl.Result{RequeueAfter: wait}, nil
		}
	}
	if booted, _, _ := unstructured.NestedBool(machine.Object, "status", "registered"); booted {
		return ctrl.Result{}, nil // Somebody has deleted its Node; a kubelet that runs does not register again either.
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: NodeName(machine), Labels: of.Labels, Annotations: map[string]string{"kwok.x-k8s.io/node": "fake"},
		},
		Spec:   corev1.NodeSpec{ProviderID: of.ProviderID, Taints: of.Taints},
		Status: corev1.NodeStatus{Capacity: of.Capacity, Allocatable: of.Allocatable},
	}
	if node.Labels == nil {
		node.Labels = map[string]string{}
	}
	node.Labels[corev1.LabelHostname], node.Labels[corev1.LabelOSStable], node.Labels[corev1.LabelArchStable] = node.Name, "linux", "amd64"
	if node.Status.Allocatable == nil {
		node.Status.Allocatable = of.Capacity
	}
	if err := m.Nodes.Create(ctx, node); err != nil && !apierrors.IsAlreadyExists(err) {
		return ctrl.Result{}, err
	}
	if err := unstructured.SetNestedField(machine.Object, true, "status", "registered"); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, m.Client.Update(ctx, machine)
}

// NodeName is the name of the Node of a TinyMachine: nodes have names of their own.
func NodeName(machine *unstructured.Unstructured) string {
	sum := sha256.Sum256([]byte(machine.GetUID()))
	return "tiny-" + hex.EncodeToString(sum[:6])
}

// say writes the condition Ready, and whatever else has changed.
func (m *Machines) say(
	ctx context.Context, machine *unstructured.Unstructured, status metav1.ConditionStatus, reason, message string,
) error {
	conditions, _, err := unstructured.NestedSlice(machine.Object, "status", "conditions")
	if err != nil {
		return err
	}
	for _, c := range conditions {
		if have, ok := c.(map[string]any); ok && have["status"] == string(status) && have["reason"] == reason {
			return nil
		}
	}
	condition := map[string]any{
		"type": "Ready", "status": string(status), "reason": reason, "message": message,
		"lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
	}
	if err := unstructured.SetNestedSlice(machine.Object, []any{condition}, "status", "conditions"); err != nil {
		return err
	}
	return m.Client.Update(ctx, machine)
}

// configs are the bootstrap: each TinyConfig has its data at once, in a Secret that nothing reads.
type configs struct {
	client client.Client
	live   client.Reader
}

// Reconcile implements reconcile.Reconciler.
func (c *configs) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	config := New("TinyConfig")
	if err := c.live.Get(ctx, request.NamespacedName, config); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if _, done, _ := unstructured.NestedString(config.Object, "status", "dataSecretName"); done || config.GetDeletionTimestamp() != nil {
		return ctrl.Result{}, nil
	}
	config.Object["status"] = map[string]any{
		"dataSecretName": config.GetName(), "initialization": map[string]any{"dataSecretCreated": true},
	}
	return ctrl.Result{}, c.client.Update(ctx, config)
}

func convert(from, into any) error {
	text, err := json.Marshal(from)
	if err != nil {
		return fmt.Errorf("read what is said of an instance: %w", err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read what is said of an instance: %w", err)
	}
	return nil
}
