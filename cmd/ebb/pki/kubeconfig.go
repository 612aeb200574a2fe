package pki

import (
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// WriteKubeconfig writes a kubeconfig for the certificate user, whose files lie in dir
// beside AUTHORITY.crt. It holds copies of them, so that the file can be moved.
func WriteKubeconfig(path, dir, server, authority, user string) error {
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil
		}
		return text
	}
	ca, cert, key := read(authority+".crt"), read(user+".crt"), read(user+".key")
	if ca == nil || cert == nil || key == nil {
		return fmt.Errorf("kubeconfig for %s: its certificate is missing in %s", user, dir)
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["ebb"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	config.Contexts["ebb"] = &clientcmdapi.Context{Cluster: "ebb", AuthInfo: user, Namespace: "default"}
	config.CurrentContext = "ebb"
	text, err := clientcmd.Write(*config)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
