package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// writeImage writes an archive of an OCI layout with one index, which has an image for each platform.
func (r *release) writeImage(w io.Writer, work string, programs []program) error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, platform := range r.platforms {
		image, err := r.image(platform, programs)
		if err != nil {
			return fmt.Errorf("image for %s: %w", platform.String(), err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &platform}})
	}
	directory := filepath.Join(work, "layout")
	path, err := layout.Write(directory, empty.Index)
	if err != nil {
		return err
	}
	// Engines that read the archive name the image by the first of these, and registries by the second.
	if err := path.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"io.containerd.image.name":          name + ":" + r.version,
		"org.opencontainers.image.ref.name": r.version,
	})); err != nil {
		return err
	}
	return r.writeDirectory(w, directory)
}

// image is that for a platform, as the last stage of the Dockerfile has it: both programs, run as no user of the host.
func (r *release) image(platform v1.Platform, programs []program) (v1.Image, error) {
	license, err := os.ReadFile(filepath.Join(r.root, "LICENSE"))
	if err != nil {
		return nil, err
	}
	authorities, err := roots()
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	files := newArchive(&content, r.time)
	if err := errors.Join(
		files.add("LICENSE", 0o644, license), files.add("etc/ssl/certs/ca-certificates.crt", 0o644, authorities),
	); err != nil {
		return nil, err
	}
	for _, p := range programs {
		if !p.platform.Equals(platform) {
			continue
		}
		binary, err := os.ReadFile(p.path)
		if err != nil {
			return nil, err
		}
		if err := files.add(p.name, 0o755, binary); err != nil {
			return nil, err
		}
	}
	if err := files.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.DefaultCompression))
	if err != nil {
		return nil, err
	}
	created := v1.Time{Time: r.time}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.Append(base, mutate.Addendum{Layer: layer, History: v1.History{Created: created, CreatedBy: "make dist"}})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant, config.Created = platform.OS, platform.Architecture, platform.Variant, created
	config.Config.User = "65532:65532"
	config.Config.Labels = map[string]string{
		"org.opencontainers.image.title":       name,
		"org.opencontainers.image.description": "Nodes for HPC ensembles on Kubernetes, before their pods",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     r.version,
		"org.opencontainers.image.revision":    r.revision,
	}
	return mutate.ConfigFile(image, config)
}

// writeDirectory writes an archive of a directory, its files in the order of their names.
func (r *release) writeDirectory(w io.Writer, directory string) error {
	var paths []string
	root := os.DirFS(directory)
	if err := fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			paths = append(paths, path)
		}
		return err
	}); err != nil {
		return err
	}
	slices.Sort(paths)
	files := newArchive(w, r.time)
	for _, path := range paths {
		content, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		if err := files.add(path, 0o644, content); err != nil {
			return err
		}
	}
	return files.Close()
}
