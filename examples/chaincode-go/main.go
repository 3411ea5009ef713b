// Command asset-contract is an asset contract: create, read, transfer, list, history, events.
//
// The peer starts it like any Fabric chaincode. With CHAINCODE_SERVER_ADDRESS and CHAINCODE_ID set it
// listens instead, as chaincode-as-a-service.
package main

import (
	"log"
	"os"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-contract-api-go/v2/contractapi"
)

func main() {
	chaincode, err := contractapi.NewChaincode(&AssetContract{})
	if err != nil {
		log.Fatalf("the contract's functions cannot be registered: %v", err)
	}
	address := os.Getenv("CHAINCODE_SERVER_ADDRESS")
	if address == "" {
		err = chaincode.Start()
	} else {
		server := &shim.ChaincodeServer{
			CCID:     os.Getenv("CHAINCODE_ID"),
			Address:  address,
			CC:       chaincode,
			TLSProps: shim.TLSProperties{Disabled: true},
		}
		err = server.Start()
	}
	if err != nil {
		log.Fatalf("the chaincode stopped: %v", err)
	}
}
