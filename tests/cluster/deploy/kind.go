package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
)

func kind(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	cluster := &v1alpha4.Cluster{}
	// kind itself refuses fields that it does not know.
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(cluster); err != nil {
		return err
	}
	if cluster.Kind != "Cluster" || cluster.APIVersion != "kind.x-k8s.io/v1alpha4" {
		return fmt.Errorf("it is %s of %s, not Cluster of kind.x-k8s.io/v1alpha4", cluster.Kind, cluster.APIVersion)
	}
	v1alpha4.SetDefaultsCluster(cluster)
	if err := checkNetworking(cluster.Networking); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(cluster)
}

func checkNetworking(networking v1alpha4.Networking) error {
	families := []v1alpha4.ClusterIPFamily{v1alpha4.IPv4Family, v1alpha4.IPv6Family, v1alpha4.DualStackFamily}
	if !slices.Contains(families, networking.IPFamily) {
		return fmt.Errorf("ipFamily %q is none of %v", networking.IPFamily, families)
	}
	modes := []v1alpha4.ProxyMode{
		v1alpha4.IPTablesProxyMode, v1alpha4.IPVSProxyMode, v1alpha4.NFTablesProxyMode,
		"none", // has a name inside kind only
	}
	if !slices.Contains(modes, networking.KubeProxyMode) {
		return fmt.Errorf("kubeProxyMode %q is none of %v", networking.KubeProxyMode, modes)
	}
	return nil
}
