// Package deviceplugin stands in for AMD's device plugin: it offers GPUs that are device files without a driver.
//
// Each container gets /dev/kfd and the render nodes of its GPUs, as from AMD's; there is no allocator by XGMI, no health check.
package deviceplugin

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	v1 "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const driverFile = "/dev/kfd"

// A node of the driver without a render node is a processor: it has the minor 0.
var renderMinor = regexp.MustCompile(`(?m)^drm_render_minor ([1-9][0-9]*)$`)

// plugin offers one GPU for each render node; the file's name is the GPU's identifier.
type plugin struct {
	v1.UnimplementedDevicePluginServer
	renderNodes map[string]string
}

// findGPUs reads the tree of the driver, as AMD's does: in a pod the device files are not there.
func findGPUs() (*plugin, error) {
	paths, err := filepath.Glob("/sys/class/kfd/kfd/topology/nodes/*/properties")
	if err != nil {
		return nil, err
	}
	nodes := map[string]string{}
	for _, path := range paths {
		properties, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if minor := renderMinor.FindSubmatch(properties); minor != nil {
			name := "renderD" + string(minor[1])
			nodes[name] = "/dev/dri/" + name
		}
	}
	return &plugin{renderNodes: nodes}, nil
}

func (p *plugin) GetDevicePluginOptions(context.Context, *v1.Empty) (*v1.DevicePluginOptions, error) {
	return &v1.DevicePluginOptions{}, nil
}

// ListAndWatch reports all GPUs once: none of them ever fails.
func (p *plugin) ListAndWatch(_ *v1.Empty, stream v1.DevicePlugin_ListAndWatchServer) error {
	reply := &v1.ListAndWatchResponse{}
	for id := range p.renderNodes {
		reply.Devices = append(reply.Devices, &v1.Device{ID: id, Health: v1.Healthy})
	}
	if err := stream.Send(reply); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (p *plugin) Allocate(_ context.Context, request *v1.AllocateRequest) (*v1.AllocateResponse, error) {
	reply := &v1.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		files := []*v1.DeviceSpec{deviceFile(driverFile)}
		for _, id := range container.DevicesIds {
			path, ok := p.renderNodes[id]
			if !ok {
				return nil, fmt.Errorf("no GPU is named %q", id)
			}
			files = append(files, deviceFile(path))
		}
		reply.ContainerResponses = append(reply.ContainerResponses, &v1.ContainerAllocateResponse{
			Envs:    map[string]string{"LAB_GPUS": strings.Join(container.DevicesIds, ",")},
			Devices: files,
		})
	}
	return reply, nil
}

func deviceFile(path string) *v1.DeviceSpec {
	return &v1.DeviceSpec{HostPath: path, ContainerPath: path, Permissions: "rw"}
}
