package main

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-gateway/pkg/hash"
	"github.com/hyperledger/fabric-gateway/pkg/identity"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// messageMax is the largest message Fabric sends; gRPC's own limit for what it receives is 4 MB.
const messageMax = 100 * 1024 * 1024

// Network is the part of what `selvage up --detach --json` prints that an application needs.
type Network struct {
	Channel   string `json:"channel"`
	Chaincode string `json:"chaincode"`
	Gateway   struct {
		Endpoint string `json:"endpoint"`
		TLSCA    string `json:"tls_ca"`
		Hostname string `json:"hostname"`
		MspID    string `json:"msp_id"`
		Cert     string `json:"cert"`
		Key      string `json:"key"`
	} `json:"gateway"`
}

// ReadNetwork reads the network description.
func ReadNetwork(file string) (*Network, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	network := new(Network)
	if err := json.Unmarshal(text, network); err != nil {
		return nil, fmt.Errorf("%s is no network description: %w", file, err)
	}
	return network, nil
}

// Connection is one TLS connection with a gateway session on it.
type Connection struct {
	Gateway *client.Gateway
	grpc    *grpc.ClientConn
}

// Open connects to the network's gateway with the identity that the description names.
func Open(network *Network) (*Connection, error) {
	id, sign, err := identityOf(network)
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(network.Gateway.TLSCA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, errors.New(network.Gateway.TLSCA + " has no certificate")
	}
	transport := credentials.NewClientTLSFromCert(roots, network.Gateway.Hostname)
	connection, err := grpc.NewClient(network.Gateway.Endpoint,
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageMax)))
	if err != nil {
		return nil, err
	}
	gateway, err := client.Connect(id,
		client.WithSign(sign),
		client.WithHash(hash.SHA256),
		client.WithClientConnection(connection),
		client.WithEvaluateTimeout(30*time.Second),
		client.WithEndorseTimeout(60*time.Second),
		client.WithSubmitTimeout(30*time.Second),
		client.WithCommitStatusTimeout(60*time.Second),
	)
	if err != nil {
		connection.Close()
		return nil, err
	}
	return &Connection{Gateway: gateway, grpc: connection}, nil
}

// Close ends the session and its connection.
func (c *Connection) Close() {
	c.Gateway.Close()
	c.grpc.Close()
}

func identityOf(network *Network) (identity.Identity, identity.Sign, error) {
	certificatePEM, err := os.ReadFile(network.Gateway.Cert)
	if err != nil {
		return nil, nil, err
	}
	certificate, err := identity.CertificateFromPEM(certificatePEM)
	if err != nil {
		return nil, nil, err
	}
	id, err := identity.NewX509Identity(network.Gateway.MspID, certificate)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err := os.ReadFile(network.Gateway.Key)
	if err != nil {
		return nil, nil, err
	}
	key, err := identity.PrivateKeyFromPEM(keyPEM)
	if err != nil {
		return nil, nil, err
	}
	sign, err := identity.NewPrivateKeySign(key)
	return id, sign, err
}
