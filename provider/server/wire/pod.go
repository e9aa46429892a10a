package wire

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Pod is what a choice depends on of a pod.
type Pod struct {
	// Namespace is that of the pod.
	Namespace string
	// Job is the name of the Job that controls it, empty where something else does, or nothing.
	Job string
	// Tolerations are those of its spec.
	Tolerations []corev1.Toleration
}

// The numbers of the fields in the .proto files of Kubernetes: v1.Pod, ObjectMeta and PodSpec.
const (
	fieldMetadata protowire.Number = 1
	fieldSpec     protowire.Number = 2

	fieldNamespace       protowire.Number = 3
	fieldOwnerReferences protowire.Number = 13

	fieldTolerations protowire.Number = 22
)

// ReadPod reads an encoded v1.Pod with as many tolerations at most. It does not look into what it has no need of.
func ReadPod(encoded []byte, tolerations int) (Pod, error) {
	r := podReader{tolerations: tolerations}
	if err := eachField(encoded, r.pod); err != nil {
		return Pod{}, err
	}
	return r.read, nil
}

// podReader has what has been read of a pod. Its methods read a field each.
type podReader struct {
	read Pod
	// tolerations is how many there may be.
	tolerations int
	// controlled is set when the owner that controls the pod has been read. There is one, and of more the first counts.
	controlled bool
}

func (r *podReader) pod(f *field) error {
	if f.number == fieldMetadata {
		return f.message("metadata", r.metadata)
	}
	if f.number == fieldSpec {
		return f.message("spec", r.spec)
	}
	return nil
}

func (r *podReader) metadata(f *field) error {
	if f.number == fieldNamespace {
		return f.bytes("namespace", func(value []byte) error {
			if len(value) > maxNamespaceBytes {
				return Refuse(ReasonName, "it has %d bytes; a namespace has at most %d", len(value), maxNamespaceBytes)
			}
			r.read.Namespace = string(value)
			return nil
		})
	}
	if f.number == fieldOwnerReferences {
		return f.bytes("ownerReferences", r.owner)
	}
	return nil
}

func (r *podReader) owner(encoded []byte) error {
	var owner metav1.OwnerReference
	if err := owner.Unmarshal(encoded); err != nil {
		return err //nolint:wrapcheck // Who calls says of which field.
	}
	if r.controlled || owner.Controller == nil || !*owner.Controller {
		return nil
	}
	r.controlled = true
	if owner.Kind != "Job" || owner.APIVersion != batchv1.SchemeGroupVersion.String() {
		return nil
	}
	if len(owner.Name) > maxNameBytes {
		return Refuse(ReasonName, "the name of the Job has %d bytes; a name has at most %d", len(owner.Name), maxNameBytes)
	}
	r.read.Job = owner.Name
	return nil
}

func (r *podReader) spec(f *field) error {
	if f.number != fieldTolerations {
		return nil
	}
	if len(r.read.Tolerations) == r.tolerations {
		return Refuse(ReasonTolerations, "there are more than %d tolerations (--max-expander-tolerations)", r.tolerations)
	}
	r.read.Tolerations = append(r.read.Tolerations, corev1.Toleration{})
	return f.bytes("tolerations", r.read.Tolerations[len(r.read.Tolerations)-1].Unmarshal)
}

// field is a field of an encoded message.
type field struct {
	number protowire.Number
	kind   protowire.Type
	// value is how it is encoded.
	value []byte
}

// eachField shows the fields of a message, in their order.
func eachField(message []byte, see func(*field) error) error {
	var f field
	for len(message) > 0 {
		var size int
		if f.number, f.kind, size = protowire.ConsumeTag(message); size < 0 {
			return fmt.Errorf("read a tag: %w", protowire.ParseError(size))
		}
		message = message[size:]
		if size = protowire.ConsumeFieldValue(f.number, f.kind, message); size < 0 {
			return fmt.Errorf("read field %d: %w", f.number, protowire.ParseError(size))
		}
		f.value, message = message[:size], message[size:]
		if err := see(&f); err != nil {
			return err
		}
	}
	return nil
}

// message shows the fields of the message that the field is.
func (f *field) message(name string, see func(*field) error) error {
	return f.bytes(name, func(value []byte) error { return eachField(value, see) })
}

// bytes reads what the field is, which must be a message or a text.
func (f *field) bytes(name string, read func([]byte) error) error {
	if f.kind != protowire.BytesType {
		return fmt.Errorf("%s: it has wire type %d, not %d", name, f.kind, protowire.BytesType)
	}
	value, _ := protowire.ConsumeBytes(f.value)
	if err := read(value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
