// Command generate-proto writes the Go code of every .proto file below a directory next to that file.
//
// It is the part of a proto compiler that this repository needs: it compiles the files in Go and runs
// protoc-gen-go and protoc-gen-go-grpc, which it finds in PATH, so neither protoc nor a plugin on a remote
// server is involved.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "generate-proto:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(arguments) != 1 {
		return errors.New("usage: generate-proto DIRECTORY, where imports of .proto files are relative to DIRECTORY")
	}
	directory := arguments[0]
	sources, err := protoFiles(directory)
	if err != nil {
		return err
	}
	files, err := compile(ctx, directory, sources)
	if err != nil {
		return err
	}
	for _, plugin := range []string{"protoc-gen-go", "protoc-gen-go-grpc"} {
		if err := generate(ctx, plugin, directory, sources, files); err != nil {
			return fmt.Errorf("%s: %w", plugin, err)
		}
	}
	return nil
}

// protoFiles are the .proto files below the directory, relative to it and with slashes.
func protoFiles(directory string) ([]string, error) {
	var sources []string
	err := fs.WalkDir(os.DirFS(directory), ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(path, ".proto") {
			sources = append(sources, path)
		}
		return err
	})
	if err == nil && len(sources) == 0 {
		err = fmt.Errorf("no .proto file below %s", directory)
	}
	return sources, err
}

// compile yields the descriptors of the sources and of all that they import, each after its own imports, as
// plugins want them.
func compile(ctx context.Context, directory string, sources []string) ([]*descriptorpb.FileDescriptorProto, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{directory}}),
		SourceInfoMode: protocompile.SourceInfoStandard, // comments go into the generated code
	}
	compiled, err := compiler.Compile(ctx, sources...)
	if err != nil {
		return nil, err
	}
	var (
		ordered []*descriptorpb.FileDescriptorProto
		visit   func(protoreflect.FileDescriptor)
		seen    = make(map[string]bool)
	)
	visit = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		for i := range file.Imports().Len() {
			visit(file.Imports().Get(i).FileDescriptor)
		}
		ordered = append(ordered, protoutil.ProtoFromFileDescriptor(file))
	}
	for _, file := range compiled {
		visit(file)
	}
	return ordered, nil
}

// generate runs a plugin over the sources and writes what it answers.
func generate(ctx context.Context, plugin, directory string, sources []string, files []*descriptorpb.FileDescriptorProto) error {
	request, err := proto.Marshal(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: sources,
		Parameter:      proto.String("paths=source_relative"),
		ProtoFile:      files,
	})
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, plugin)
	command.Stdin = bytes.NewReader(request)
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return err
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(output, &response); err != nil {
		return fmt.Errorf("read its answer: %w", err)
	}
	if response.Error != nil {
		return errors.New(response.GetError())
	}
	if len(response.GetFile()) == 0 {
		return fmt.Errorf("it generated nothing from %s", strings.Join(sources, ", "))
	}
	for _, file := range response.GetFile() {
		path := filepath.Join(directory, filepath.FromSlash(file.GetName()))
		if err := os.WriteFile(path, []byte(file.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
