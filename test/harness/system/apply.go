package system

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// fieldManager is whose edits those of the system itself are.
const fieldManager = "test-system"

// Objects reads the objects of YAML documents.
func Objects(text []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		switch {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, fmt.Errorf("parse YAML: %w", err)
		case len(object.Object) > 0:
			objects = append(objects, object)
		}
	}
}

// ReadFile is the content of a file of the repository.
func (s *System) ReadFile(path string) (string, error) {
	text, err := os.ReadFile(filepath.Join(s.root, filepath.FromSlash(path)))
	return string(text), err
}

// ObjectsOf reads the objects of a file of the repository, or of one whose whole path is given.
func (s *System) ObjectsOf(path string) ([]*unstructured.Unstructured, error) {
	path = filepath.FromSlash(path)
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.root, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	objects, err := Objects(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return objects, nil
}

// Apply creates objects or brings them to what they say.
func (s *System) Apply(ctx context.Context, objects ...*unstructured.Unstructured) error {
	for _, object := range objects {
		configuration := client.ApplyConfigurationFromUnstructured(object.DeepCopy())
		if err := Write(ctx, func(ctx context.Context) error {
			return s.Client.Apply(ctx, configuration, client.FieldOwner(fieldManager), client.ForceOwnership)
		}); err != nil {
			return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return nil
}

// Write writes as a user does: while nobody answers for a webhook, because the controller is being restarted, it tries
// again. Nothing was written then. Any other answer is the answer.
func Write(ctx context.Context, write func(context.Context) error) error {
	var last error
	if err := wait.PollUntilContextTimeout(ctx, readyPoll, readyWithin, true, func(ctx context.Context) (bool, error) {
		last = write(ctx)
		return !NotAnswered(last), nil
	}); err != nil {
		return fmt.Errorf("no webhook answered within %s: %w", readyWithin, errors.Join(err, last))
	}
	return last
}

// applyPart applies those objects of a file whose kind is wanted.
func (s *System) applyPart(ctx context.Context, path string, kinds ...string) error {
	objects, err := s.ObjectsOf(path)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, kind := range kinds {
		wanted[kind] = true
	}
	for _, object := range objects {
		if len(kinds) > 0 && !wanted[object.GetKind()] {
			continue
		}
		if err := s.Apply(ctx, object); err != nil {
			return err
		}
	}
	return nil
}
