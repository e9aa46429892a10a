package wire

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/encoding/protowire"
)

// Limits bound what a request to the expander may make the server keep. The port asks for no client certificate, so whatever can
// reach it can send a request, and what is decoded of one byte may take a hundred bytes of memory: everything here is counted in the
// bytes as they were received, before objects are made of them.
type Limits struct {
	// Options is the number of options of a request. Cluster Autoscaler has one for each node group that it could expand.
	Options int
	// Pods is the number of pods of one option, and of different pods in a request. All of them are pods that find no node.
	Pods int
	// PodsListed is the number of pods of all options together, where a pod counts once for each option that has it.
	PodsListed int
	// Tolerations is the number of tolerations of one pod. Of different pods together they are as many as Pods at most, where those
	// that tolerate the same count once.
	Tolerations int
}

// AddFlags declares the flags. The values that the limits have are the defaults.
func (l *Limits) AddFlags(flags *pflag.FlagSet) {
	flags.IntVar(&l.Options, "max-expander-options", l.Options, "node groups that a request to the expander may have")
	flags.IntVar(&l.Pods, "max-expander-pods", l.Pods,
		"pods that one node group of a request to the expander may have, and different pods in all")
	flags.IntVar(&l.PodsListed, "max-expander-pods-listed", l.PodsListed,
		"pods of all node groups of a request to the expander together; a pod counts for each group that has it")
	flags.IntVar(&l.Tolerations, "max-expander-tolerations", l.Tolerations, "tolerations that a pod in a request to the expander may have")
}

// Validate names the flag that cannot be.
func (l *Limits) Validate() error {
	for _, limit := range []struct {
		flag  string
		value int
	}{
		{"max-expander-options", l.Options}, {"max-expander-pods", l.Pods},
		{"max-expander-pods-listed", l.PodsListed}, {"max-expander-tolerations", l.Tolerations},
	} {
		if limit.value < 1 {
			return fmt.Errorf("--%s is %d; it must be at least 1", limit.flag, limit.value)
		}
	}
	return nil
}

// DefaultLimits are for ten times the groups and the pods that find no node of the largest cluster that is measured (make bench: 1,000
// groups, each with the same 1,000 pods), and twice the listed pods, which no request of real pods reaches: 2,000,000 pods of 200 bytes
// are beyond the largest request.
func DefaultLimits() Limits {
	return Limits{Options: 10_000, Pods: 100_000, PodsListed: 2_000_000, Tolerations: 256}
}

// Properties of what is sent, which no flag changes.
const (
	// minPodBytes is the size of the smallest pod. Kubernetes encodes a v1.Pod without anything in it with 69 bytes, and the UID alone,
	// which each pod of a cluster has, takes 38 with its tags.
	minPodBytes = 32
	// maxPodBytes is the size of the largest pod: that of the largest request that an API server takes.
	maxPodBytes = 3 << 20
	// maxNamespaceBytes and maxNameBytes are the lengths of the longest namespace, and of the longest name of a Job or a node group.
	maxNamespaceBytes, maxNameBytes = 63, 253
)

// Reason is why a request was refused. It is a label of a metric.
type Reason string

// The reasons to refuse a request.
const (
	// ReasonOptions is that of more options than there may be.
	ReasonOptions Reason = "options"
	// ReasonPods is that of more pods than there may be, in an option or in all.
	ReasonPods Reason = "pods"
	// ReasonPodSize is that of a pod that is smaller or larger than any is.
	ReasonPodSize Reason = "pod-size"
	// ReasonName is that of a name that is longer than any is.
	ReasonName Reason = "name"
	// ReasonTolerations is that of more tolerations than there may be, of a pod or in all.
	ReasonTolerations Reason = "tolerations"
	// ReasonCompressed is that of a request that is compressed.
	ReasonCompressed Reason = "compressed"
	// ReasonMalformed is that of bytes that are no request.
	ReasonMalformed Reason = "malformed"
)

// Reasons are all reasons.
func Reasons() []Reason {
	return []Reason{ReasonOptions, ReasonPods, ReasonPodSize, ReasonName, ReasonTolerations, ReasonCompressed, ReasonMalformed}
}

// Refusal is the error of a request that is beyond a limit.
type Refusal struct {
	Reason  Reason
	Message string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

// Refuse is the error of a request that is beyond a limit.
func Refuse(reason Reason, format string, arguments ...any) error {
	return &Refusal{reason, fmt.Sprintf(format, arguments...)}
}

// ReasonOf is the reason of an error of this package.
func ReasonOf(err error) Reason {
	if refusal, is := errors.AsType[*Refusal](err); is {
		return refusal.Reason
	}
	return ReasonMalformed
}

// counter counts the pods of a request while its options are read, by several readers at once.
type counter struct {
	limits *Limits
	listed atomic.Int64
}

// option counts the pods of an option. Those that it shares with an earlier one count too.
func (c *counter) option(pods int) error {
	if pods > c.limits.Pods {
		return Refuse(ReasonPods, "it has %d pods; at most %d are allowed (--max-expander-pods)", pods, c.limits.Pods)
	}
	if c.listed.Add(int64(pods)) > int64(c.limits.PodsListed) {
		return Refuse(ReasonPods, "with its %d pods the options list more than %d (--max-expander-pods-listed)", pods, c.limits.PodsListed)
	}
	return nil
}

// checkPod refuses what is too small or too large for a pod.
func checkPod(encoded []byte) error {
	if len(encoded) < minPodBytes || len(encoded) > maxPodBytes {
		return Refuse(ReasonPodSize, "it has a pod of %d bytes; pods have from %d to %d", len(encoded), minPodBytes, maxPodBytes)
	}
	return nil
}

// countPods counts the pods of an encoded option, whatever the order of its fields. It stops at one more than there may be. Bytes that
// are no message are left to who decodes them.
func (c *counter) countPods(option []byte) (int, error) {
	pods := 0
	for len(option) > 0 {
		number, kind, size := protowire.ConsumeTag(option)
		if size < 0 {
			break
		}
		option = option[size:]
		if size = protowire.ConsumeFieldValue(number, kind, option); size < 0 {
			break
		}
		if (number == fieldPodBytes || number == fieldLegacyPod) && kind == protowire.BytesType {
			pod, _ := protowire.ConsumeBytes(option)
			if err := checkPod(pod); err != nil {
				return 0, err
			}
			if pods++; pods > c.limits.Pods {
				break
			}
		}
		option = option[size:]
	}
	return pods, nil
}

// checkGroup refuses an id that is too long for one of a node group. It is part of what is said of an option.
func checkGroup(id string) error {
	if len(id) > maxNameBytes {
		return Refuse(ReasonName, "its nodeGroupId has %d bytes; at most %d are allowed", len(id), maxNameBytes)
	}
	return nil
}

// Compressed refuses requests that are compressed: some KiB would become as much as the largest request before anybody has looked at
// them. It is a decompressor of gRPC for gzip, the one compression that is registered in the provider; gRPC refuses what is not
// registered itself.
type Compressed struct {
	// Refused is told of each.
	Refused func(Reason)
}

// Type implements grpc.Decompressor.
func (Compressed) Type() string { return "gzip" }

// Do implements grpc.Decompressor.
func (c Compressed) Do(io.Reader) ([]byte, error) {
	c.Refused(ReasonCompressed)
	return nil, Refuse(ReasonCompressed, "it is compressed; requests to the expander are sent as they are")
}
