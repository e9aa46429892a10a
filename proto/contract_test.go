// Package proto_test holds the protos to the wire contracts of the programs that we serve. Those programs are
// built from protos of their own, so a difference here is no compile error anywhere: it is a field that
// arrives empty, or a method that nobody implements.
package proto_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/expander"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

// contract is everything in a .proto file that reaches the wire. Names of messages and enums are relative to
// the package.
type contract struct {
	// Syntax decides, among others, whether a field that was never set can be told from one set to zero.
	Syntax  string
	Package string
	// Services have "Method(Request) Response" by the name of the service.
	Services map[string][]string
	// Messages have "type name" by field number, by the name of the message.
	Messages map[string]map[int]string
	// Enums have the names of the values by number, by the name of the enum.
	Enums map[string]map[int]string
}

// cloudProvider is the contract of Cluster Autoscaler's cloud provider "externalgrpc".
//
// Here and in the expander, fields named "legacy" are those of Cluster Autoscaler up to 1.34. There they are
// embedded messages of Kubernetes, which on the wire are the same as bytes; their numbers are part of the
// contract, their names are ours.
var cloudProvider = contract{
	Syntax:  "proto3",
	Package: "clusterautoscaler.cloudprovider.v1.externalgrpc",
	Services: map[string][]string{
		"CloudProvider": {
			"NodeGroups(NodeGroupsRequest) NodeGroupsResponse",
			"NodeGroupForNode(NodeGroupForNodeRequest) NodeGroupForNodeResponse",
			"PricingNodePrice(PricingNodePriceRequest) PricingNodePriceResponse",
			"PricingPodPrice(PricingPodPriceRequest) PricingPodPriceResponse",
			"GPULabel(GPULabelRequest) GPULabelResponse",
			"GetAvailableGPUTypes(GetAvailableGPUTypesRequest) GetAvailableGPUTypesResponse",
			"Cleanup(CleanupRequest) CleanupResponse",
			"Refresh(RefreshRequest) RefreshResponse",
			"NodeGroupTargetSize(NodeGroupTargetSizeRequest) NodeGroupTargetSizeResponse",
			"NodeGroupIncreaseSize(NodeGroupIncreaseSizeRequest) NodeGroupIncreaseSizeResponse",
			"NodeGroupDeleteNodes(NodeGroupDeleteNodesRequest) NodeGroupDeleteNodesResponse",
			"NodeGroupDecreaseTargetSize(NodeGroupDecreaseTargetSizeRequest) NodeGroupDecreaseTargetSizeResponse",
			"NodeGroupNodes(NodeGroupNodesRequest) NodeGroupNodesResponse",
			"NodeGroupTemplateNodeInfo(NodeGroupTemplateNodeInfoRequest) NodeGroupTemplateNodeInfoResponse",
			// The one whose messages do not follow from its name.
			"NodeGroupGetOptions(NodeGroupAutoscalingOptionsRequest) NodeGroupAutoscalingOptionsResponse",
		},
	},
	Messages: map[string]map[int]string{
		"NodeGroup": {1: "string id", 2: "int32 minSize", 3: "int32 maxSize", 4: "string debug"},
		"ExternalGrpcNode": {
			1: "string providerID",
			2: "string name",
			3: "map<string, string> labels",
			4: "map<string, string> annotations",
		},
		"NodeGroupsRequest":        {},
		"NodeGroupsResponse":       {1: "repeated NodeGroup nodeGroups"},
		"NodeGroupForNodeRequest":  {1: "ExternalGrpcNode node"},
		"NodeGroupForNodeResponse": {1: "NodeGroup nodeGroup"},
		"PricingNodePriceRequest": {
			1: "ExternalGrpcNode node",
			2: "bytes legacyStartTimestamp",
			3: "bytes legacyEndTimestamp",
			4: "google.protobuf.Timestamp startTimestamp",
			5: "google.protobuf.Timestamp endTimestamp",
		},
		"PricingNodePriceResponse": {1: "double price"},
		"PricingPodPriceRequest": {
			1: "bytes legacyPod",
			2: "bytes legacyStartTimestamp",
			3: "bytes legacyEndTimestamp",
			4: "bytes pod_bytes",
			5: "google.protobuf.Timestamp startTimestamp",
			6: "google.protobuf.Timestamp endTimestamp",
		},
		"PricingPodPriceResponse":             {1: "double price"},
		"GPULabelRequest":                     {},
		"GPULabelResponse":                    {1: "string label"},
		"GetAvailableGPUTypesRequest":         {},
		"GetAvailableGPUTypesResponse":        {1: "map<string, google.protobuf.Any> gpuTypes"},
		"CleanupRequest":                      {},
		"CleanupResponse":                     {},
		"RefreshRequest":                      {},
		"RefreshResponse":                     {},
		"NodeGroupTargetSizeRequest":          {1: "string id"},
		"NodeGroupTargetSizeResponse":         {1: "int32 targetSize"},
		"NodeGroupIncreaseSizeRequest":        {1: "int32 delta", 2: "string id"},
		"NodeGroupIncreaseSizeResponse":       {},
		"NodeGroupDeleteNodesRequest":         {1: "repeated ExternalGrpcNode nodes", 2: "string id"},
		"NodeGroupDeleteNodesResponse":        {},
		"NodeGroupDecreaseTargetSizeRequest":  {1: "int32 delta", 2: "string id"},
		"NodeGroupDecreaseTargetSizeResponse": {},
		"NodeGroupNodesRequest":               {1: "string id"},
		"NodeGroupNodesResponse":              {1: "repeated Instance instances"},
		"Instance":                            {1: "string id", 2: "InstanceStatus status"},
		"InstanceStatus":                      {1: "InstanceStatus.InstanceState instanceState", 2: "InstanceErrorInfo errorInfo"},
		"InstanceErrorInfo":                   {1: "string errorCode", 2: "string errorMessage", 3: "int32 instanceErrorClass"},
		"NodeGroupTemplateNodeInfoRequest":    {1: "string id"},
		"NodeGroupTemplateNodeInfoResponse":   {1: "bytes legacyNodeInfo", 2: "bytes nodeBytes"},
		"NodeGroupAutoscalingOptionsRequest":  {1: "string id", 2: "NodeGroupAutoscalingOptions defaults"},
		"NodeGroupAutoscalingOptionsResponse": {1: "NodeGroupAutoscalingOptions nodeGroupAutoscalingOptions"},
		"NodeGroupAutoscalingOptions": {
			1:  "double scaleDownUtilizationThreshold",
			2:  "double scaleDownGpuUtilizationThreshold",
			3:  "bytes legacyScaleDownUnneededTime",
			4:  "bytes legacyScaleDownUnreadyTime",
			5:  "bytes legacyMaxNodeProvisionTime",
			6:  "bool zeroOrMaxNodeScaling",
			7:  "bool ignoreDaemonSetsUtilization",
			8:  "google.protobuf.Duration scaleDownUnneededDuration",
			9:  "google.protobuf.Duration scaleDownUnreadyDuration",
			10: "google.protobuf.Duration MaxNodeProvisionDuration",
		},
	},
	Enums: map[string]map[int]string{
		"InstanceStatus.InstanceState": {
			0: "unspecified",
			1: "instanceRunning",
			2: "instanceCreating",
			3: "instanceDeleting",
		},
	},
}

// grpcExpander is the contract of Cluster Autoscaler's expander "grpc".
var grpcExpander = contract{
	Syntax:  "proto3",
	Package: "grpcplugin",
	Services: map[string][]string{
		"Expander": {"BestOptions(BestOptionsRequest) BestOptionsResponse"},
	},
	Messages: map[string]map[int]string{
		"BestOptionsRequest": {
			1: "repeated Option options",
			2: "map<string, bytes> legacyNodeMap",
			3: "map<string, bytes> nodeBytesMap",
		},
		"BestOptionsResponse": {1: "repeated Option options"},
		"Option": {
			1: "string nodeGroupId",
			2: "int32 nodeCount",
			3: "string debug",
			4: "repeated bytes legacyPod",
			5: "repeated bytes podBytes",
		},
	},
	Enums: map[string]map[int]string{},
}

// ensembleOperator is the contract of the ensemble protocol. Its two clients agree in numbers and types, not in
// every name: where the current one has "name" in field 2, the older one has "algorithm".
var ensembleOperator = contract{
	Syntax:  "proto3",
	Package: "convergedcomputing.org.grpc.v1",
	Services: map[string][]string{
		"EnsembleOperator": {
			"RequestStatus(StatusRequest) Response",
			"RequestUpdate(UpdateRequest) Response", // of the older client only
			"RequestAction(ActionRequest) Response",
		},
	},
	Messages: map[string]map[int]string{
		"StatusRequest": {1: "string member", 2: "string name"},
		"UpdateRequest": {1: "string member", 2: "string name", 3: "string options", 4: "string payload"},
		"ActionRequest": {1: "string member", 2: "string name", 3: "string action", 4: "string payload"},
		"Response":      {1: "string payload", 4: "Response.ResultType status"},
	},
	Enums: map[string]map[int]string{
		"Response.ResultType": {0: "UNSPECIFIED", 1: "SUCCESS", 2: "ERROR", 3: "DENIED", 4: "EXISTS"},
	},
}

func TestProtosAreTheWireContract(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		file protoreflect.FileDescriptor
		want contract
	}{
		"cloud provider":    {externalgrpc.File_externalgrpc_externalgrpc_proto, cloudProvider},
		"expander":          {expander.File_expander_expander_proto, grpcExpander},
		"ensemble protocol": {ensemble.File_ensemble_ensemble_proto, ensembleOperator},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, contractOf(test.file)); diff != "" {
				t.Errorf("%s is not the contract (-contract +proto):\n%s", test.file.Path(), diff)
			}
		})
	}
}

// TestServersServeTheContract looks at what a gRPC server registers, which comes from another generator than
// the messages do.
func TestServersServeTheContract(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		served  grpc.ServiceDesc
		service protoreflect.ServiceDescriptor
	}{
		"cloud provider":    {externalgrpc.CloudProvider_ServiceDesc, externalgrpc.File_externalgrpc_externalgrpc_proto.Services().Get(0)},
		"expander":          {expander.Expander_ServiceDesc, expander.File_expander_expander_proto.Services().Get(0)},
		"ensemble protocol": {ensemble.EnsembleOperator_ServiceDesc, ensemble.File_ensemble_ensemble_proto.Services().Get(0)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, want := test.served.ServiceName, string(test.service.FullName()); got != want {
				t.Errorf("the server registers service %q, the contract has %q", got, want)
			}
			var got, want []string
			for _, method := range test.served.Methods {
				got = append(got, method.MethodName)
			}
			for _, stream := range test.served.Streams {
				got = append(got, "stream "+stream.StreamName)
			}
			for i := range test.service.Methods().Len() {
				want = append(want, string(test.service.Methods().Get(i).Name()))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("methods that the server registers (-contract +server):\n%s", diff)
			}
		})
	}
}

func contractOf(file protoreflect.FileDescriptor) contract {
	c := contract{
		Syntax:   file.Syntax().String(),
		Package:  string(file.Package()),
		Services: map[string][]string{},
		Messages: map[string]map[int]string{},
		Enums:    map[string]map[int]string{},
	}
	for i := range file.Services().Len() {
		service := file.Services().Get(i)
		methods := service.Methods()
		for i := range methods.Len() {
			c.Services[string(service.Name())] = append(c.Services[string(service.Name())], c.method(methods.Get(i)))
		}
	}
	c.addMessages(file.Messages())
	c.addEnums(file.Enums())
	return c
}

func (c *contract) addMessages(messages protoreflect.MessageDescriptors) {
	for i := range messages.Len() {
		message := messages.Get(i)
		if message.IsMapEntry() {
			continue // it is in the type of the map's field
		}
		fields := map[int]string{}
		for i := range message.Fields().Len() {
			field := message.Fields().Get(i)
			fields[int(field.Number())] = c.cardinality(field) + c.typeOf(field) + " " + string(field.Name())
		}
		c.Messages[c.name(message)] = fields
		c.addMessages(message.Messages())
		c.addEnums(message.Enums())
	}
}

func (c *contract) addEnums(enums protoreflect.EnumDescriptors) {
	for i := range enums.Len() {
		enum := enums.Get(i)
		values := map[int]string{}
		for i := range enum.Values().Len() {
			value := enum.Values().Get(i)
			values[int(value.Number())] = string(value.Name())
		}
		c.Enums[c.name(enum)] = values
	}
}

func (c *contract) method(method protoreflect.MethodDescriptor) string {
	stream := func(streams bool) string {
		if streams {
			return "stream "
		}
		return ""
	}
	return fmt.Sprintf("%s(%s%s) %s%s", method.Name(),
		stream(method.IsStreamingClient()), c.name(method.Input()),
		stream(method.IsStreamingServer()), c.name(method.Output()))
}

func (*contract) cardinality(field protoreflect.FieldDescriptor) string {
	switch oneof := field.ContainingOneof(); {
	case field.HasOptionalKeyword():
		return "optional "
	case oneof != nil:
		return "oneof " + string(oneof.Name()) + " "
	case field.IsList():
		return "repeated "
	default:
		return ""
	}
}

func (c *contract) typeOf(field protoreflect.FieldDescriptor) string {
	if field.IsMap() {
		return fmt.Sprintf("map<%s, %s>", c.typeOf(field.MapKey()), c.typeOf(field.MapValue()))
	}
	switch {
	case field.Message() != nil:
		return c.name(field.Message())
	case field.Enum() != nil:
		return c.name(field.Enum())
	default:
		return field.Kind().String()
	}
}

// name is the name within the package, or the full one of what belongs to another package.
func (c *contract) name(descriptor protoreflect.Descriptor) string {
	if string(descriptor.ParentFile().Package()) != c.Package {
		return string(descriptor.FullName())
	}
	return string(descriptor.FullName())[len(c.Package)+1:]
}
