package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/explain"
)

// AutoscalerNamespaces are where Cluster Autoscaler writes its status, unless told otherwise: where our examples run it, and its default.
var AutoscalerNamespaces = []string{"ensemble-autoscaler-system", "kube-system"}

// StatusConfigMap is the name of the ConfigMap in which Cluster Autoscaler tells its state (its flag --status-config-map-name).
const StatusConfigMap = "cluster-autoscaler-status"

// Autoscaler is what Cluster Autoscaler has told of itself last.
type Autoscaler = explain.Autoscaler

// NodeGroup is what it has told of one group.
type NodeGroup = explain.NodeGroup

// Autoscaler is what the Cluster Autoscaler of our provider has told of itself: of several the first that knows one of pools, else the
// first. It is nil where none has told anything. Where none that may be read knows one of pools, each ConfigMap that may not be read is a
// gap. What cannot be parsed is an error in the first namespace, and in later ones that of another Cluster Autoscaler: versions that have
// our provider write YAML.
func (r *Reader) Autoscaler(ctx context.Context, pools ...string) (*Autoscaler, error) {
	var first *Autoscaler
	var unread []Gap
	for i, namespace := range r.autoscalers {
		config := &corev1.ConfigMap{}
		err := r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: StatusConfigMap}, config)
		switch {
		case apierrors.IsNotFound(err):
			continue
		case apierrors.IsForbidden(err):
			unread = append(unread, Gap{Verb: "get", Resource: ResourceConfigMaps, Namespace: namespace, Message: err.Error()})
			continue
		case err != nil:
			return nil, r.allowed(err, "get", ResourceConfigMaps, namespace)
		}
		status, err := ParseAutoscaler(config)
		switch {
		case err != nil && i == 0:
			return nil, err
		case err != nil:
			continue
		case slices.ContainsFunc(pools, func(pool string) bool { return status.Group(pool) != nil }):
			return status, nil
		case first == nil:
			first = status
		}
	}
	for _, gap := range unread {
		r.lacks(gap)
	}
	return first, nil
}

// timeFormats are those in which Cluster Autoscaler writes the time of its status: Go's own, without the monotonic clock.
var timeFormats = []string{"2006-01-02 15:04:05.999999999 -0700 MST", time.RFC3339Nano}

// ParseAutoscaler reads the ConfigMap of Cluster Autoscaler. The error names the object and what is wrong with it.
func ParseAutoscaler(config *corev1.ConfigMap) (*Autoscaler, error) {
	type condition struct {
		Status             string    `json:"status"`
		LastTransitionTime time.Time `json:"lastTransitionTime"`
	}
	var told struct {
		Time             string `json:"time"`
		AutoscalerStatus string `json:"autoscalerStatus"`
		ClusterWide      struct {
			Health condition `json:"health"`
		} `json:"clusterWide"`
		NodeGroups []struct {
			Name   string `json:"name"`
			Health struct {
				condition           `json:",inline"`
				CloudProviderTarget int `json:"cloudProviderTarget"`
				MinSize             int `json:"minSize"`
				MaxSize             int `json:"maxSize"`
			} `json:"health"`
			ScaleUp struct {
				condition   `json:",inline"`
				BackoffInfo struct {
					ErrorCode    string `json:"errorCode"`
					ErrorMessage string `json:"errorMessage"`
				} `json:"backoffInfo"`
			} `json:"scaleUp"`
			ScaleDown condition `json:"scaleDown"`
		} `json:"nodeGroups"`
	}
	where := "ConfigMap " + config.Namespace + "/" + config.Name
	if err := yaml.Unmarshal([]byte(config.Data["status"]), &told); err != nil {
		return nil, fmt.Errorf("%s: data.status is not the YAML that Cluster Autoscaler writes from version 1.30 on: %w", where, err)
	}
	a := &Autoscaler{Namespace: config.Namespace, State: told.AutoscalerStatus, Health: told.ClusterWide.Health.Status}
	for _, format := range timeFormats {
		if at, err := time.Parse(format, told.Time); err == nil {
			a.Time = at
			break
		}
	}
	for i := range told.NodeGroups {
		g := &told.NodeGroups[i]
		a.NodeGroups = append(a.NodeGroups, NodeGroup{
			Name: g.Name, Health: g.Health.Status, Target: g.Health.CloudProviderTarget, MinSize: g.Health.MinSize, MaxSize: g.Health.MaxSize,
			ScaleUp: g.ScaleUp.Status, ScaleUpSince: g.ScaleUp.LastTransitionTime,
			BackoffCode: g.ScaleUp.BackoffInfo.ErrorCode, BackoffMessage: g.ScaleUp.BackoffInfo.ErrorMessage,
			ScaleDown: g.ScaleDown.Status,
		})
	}
	return a, nil
}
