package deviceplugin

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	v1 "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	kubeletSocket = "kubelet.sock"
	ownSocket     = "lab-gpus.sock"
)

// Main offers the GPUs of this machine to a kubelet until it is stopped: NAME FOLDER RESOURCE, where FOLDER has the kubelet's socket.
func Main(arguments []string) {
	if len(arguments) != 3 {
		fail(fmt.Errorf("usage: %s FOLDER RESOURCE", arguments[0]))
	}
	gpus, err := findGPUs()
	if err != nil {
		fail(err)
	}
	fail(offer(gpus, arguments[1], arguments[2]))
}

// offer registers with the kubelet now, and again whenever it makes its socket: a kubelet that starts has forgotten all plugins.
func offer(gpus *plugin, folder, resource string) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer watcher.Close()
	if err := watcher.Add(folder); err != nil {
		return err
	}
	socket := filepath.Join(folder, kubeletSocket)
	var server *grpc.Server
	for {
		if _, err := os.Stat(socket); err == nil {
			if server != nil {
				server.Stop()
			}
			if server, err = serve(filepath.Join(folder, ownSocket), gpus); err != nil {
				return err
			}
			if err := register(socket, resource); err != nil {
				return err
			}
			fmt.Printf("registered %d %s\n", len(gpus.renderNodes), resource)
		}
		if err := created(watcher, socket); err != nil {
			return err
		}
	}
}

// created returns when the path has been made.
func created(watcher *fsnotify.Watcher, path string) error {
	for {
		select {
		case event := <-watcher.Events:
			if event.Name == path && event.Has(fsnotify.Create) {
				return nil
			}
		case err := <-watcher.Errors:
			return err
		}
	}
}

func serve(socket string, gpus *plugin) (*grpc.Server, error) {
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer()
	v1.RegisterDevicePluginServer(server, gpus)
	go server.Serve(listener)
	return server, nil
}

func register(socket, resource string) error {
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = v1.NewRegistrationClient(connection).Register(context.Background(), &v1.RegisterRequest{
		Version:      v1.Version,
		Endpoint:     ownSocket,
		ResourceName: resource,
	}, grpc.WaitForReady(true)) // the socket exists a moment before the kubelet listens
	return err
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
