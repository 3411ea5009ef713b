// Command probe asks the peer for what the asset contracts never ask for. Lists are JSON.
package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log"
	"slices"

	"github.com/hyperledger/fabric-chaincode-go/v2/pkg/statebased"
	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
)

type probe struct{}

func (probe) Init(shim.ChaincodeStubInterface) *peer.Response {
	return shim.Success(nil)
}

func (probe) Invoke(stub shim.ChaincodeStubInterface) *peer.Response {
	function, args := stub.GetFunctionAndParameters()
	result, err := run(stub, function, args)
	if err != nil {
		return shim.Error(err.Error())
	}
	return shim.Success(result)
}

func run(stub shim.ChaincodeStubInterface, function string, args []string) ([]byte, error) {
	switch {
	case function == "Put" && len(args) == 2:
		// Answers with the id of the transaction it runs in.
		return []byte(stub.GetTxID()), stub.PutState(args[0], []byte(args[1]))
	case function == "Get" && len(args) == 1:
		return stub.GetState(args[0])
	case function == "Fail" && len(args) == 1:
		return nil, fmt.Errorf("%s", args[0])
	case function == "Call" && len(args) == 3:
		return call(stub, args[0], args[1], args[2])
	case function == "Guard" && len(args) == 2:
		return nil, guard(stub, args[0], args[1])
	case function == "Guardians" && len(args) == 1:
		return guardians(stub, args[0])
	case function == "Dice":
		// Two peers never answer the same.
		return nil, stub.PutState("dice", []byte(rand.Text()))
	}
	return nil, fmt.Errorf("no function %s with %d arguments", function, len(args))
}

// call calls another chaincode, and passes on what it said.
func call(stub shim.ChaincodeStubInterface, chaincode, channel, list string) ([]byte, error) {
	var strings []string
	if err := json.Unmarshal([]byte(list), &strings); err != nil {
		return nil, err
	}
	var args [][]byte
	for _, arg := range strings {
		args = append(args, []byte(arg))
	}
	answer := stub.InvokeChaincode(chaincode, args, channel)
	return json.Marshal(map[string]any{
		"status":  answer.GetStatus(),
		"message": answer.GetMessage(),
		"payload": string(answer.GetPayload()),
	})
}

// guard has a peer of each of these organisations endorse whatever changes the key.
func guard(stub shim.ChaincodeStubInterface, key, list string) error {
	var orgs []string
	if err := json.Unmarshal([]byte(list), &orgs); err != nil {
		return err
	}
	policy, err := statebased.NewStateEP(nil)
	if err != nil {
		return err
	}
	if err := policy.AddOrgs(statebased.RoleTypePeer, orgs...); err != nil {
		return err
	}
	bytes, err := policy.Policy()
	if err != nil {
		return err
	}
	return stub.SetStateValidationParameter(key, bytes)
}

func guardians(stub shim.ChaincodeStubInterface, key string) ([]byte, error) {
	bytes, err := stub.GetStateValidationParameter(key)
	if err != nil {
		return nil, err
	}
	policy, err := statebased.NewStateEP(bytes)
	if err != nil {
		return nil, err
	}
	orgs := policy.ListOrgs()
	slices.Sort(orgs)
	return json.Marshal(append([]string{}, orgs...))
}

func main() {
	if err := shim.Start(probe{}); err != nil {
		log.Fatalf("the chaincode stopped: %v", err)
	}
}
