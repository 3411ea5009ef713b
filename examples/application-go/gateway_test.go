package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-protos-go-apiv2/gateway"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// connected opens the network that SELVAGE_NETWORK names.
func connected(t *testing.T) (*Network, *client.Network, *client.Contract) {
	t.Helper()
	file := os.Getenv("SELVAGE_NETWORK")
	if file == "" {
		t.Fatal("SELVAGE_NETWORK must name the output of: selvage up --detach --json")
	}
	network, err := ReadNetwork(file)
	if err != nil {
		t.Fatal(err)
	}
	connection, err := Open(network)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connection.Close)
	channel := connection.Gateway.GetNetwork(network.Channel)
	return network, channel, channel.GetContract(network.Chaincode)
}

func create(t *testing.T, contract *client.Contract) string {
	t.Helper()
	id := NewID()
	if _, err := contract.SubmitTransaction("CreateAsset", id, "blue", "5", "Tom", "100"); err != nil {
		t.Fatal(err)
	}
	return id
}

// details returns what every peer said about the failure.
func details(err error) string {
	var said []string
	for _, detail := range status.Convert(err).Details() {
		if d, ok := detail.(*gateway.ErrorDetail); ok {
			said = append(said, d.GetMspId()+" "+d.GetAddress()+": "+d.GetMessage())
		}
	}
	return strings.Join(said, "\n")
}

func TestSubmitThenEvaluate(t *testing.T) {
	_, _, contract := connected(t)
	id := create(t, contract)
	value, err := contract.EvaluateTransaction("ReadAsset", id)
	if err != nil {
		t.Fatal(err)
	}
	var asset struct{ ID, Owner string }
	if err := json.Unmarshal(value, &asset); err != nil {
		t.Fatal(err)
	}
	if asset.ID != id || asset.Owner != "Tom" {
		t.Fatalf("read %s", value)
	}
}

func TestCommitStatus(t *testing.T) {
	_, _, contract := connected(t)
	_, commit, err := contract.SubmitAsync("CreateAsset", client.WithArguments(NewID(), "red", "1", "Tom", "1"))
	if err != nil {
		t.Fatal(err)
	}
	outcome, err := commit.Status()
	if err != nil {
		t.Fatal(err)
	}
	if !outcome.Successful || outcome.Code != peer.TxValidationCode_VALID || outcome.BlockNumber == 0 {
		t.Fatalf("status %+v", outcome)
	}
}

func TestContractErrorOnSubmit(t *testing.T) {
	_, _, contract := connected(t)
	_, err := contract.SubmitTransaction("TransferAsset", "missing", "Ann")
	var refused *client.EndorseError
	if !errors.As(err, &refused) {
		t.Fatalf("got %v", err)
	}
	if code := status.Code(err); code != codes.Aborted {
		t.Fatalf("code %v", code)
	}
	if said := details(err); !strings.Contains(said, "chaincode response 500, the asset missing does not exist") {
		t.Fatalf("details %q", said)
	}
}

func TestContractErrorOnEvaluate(t *testing.T) {
	_, _, contract := connected(t)
	_, err := contract.EvaluateTransaction("ReadAsset", "missing")
	if code := status.Code(err); code != codes.Unknown {
		t.Fatalf("code %v of %v", code, err)
	}
	if said := details(err); !strings.Contains(said, "the asset missing does not exist") {
		t.Fatalf("details %q", said)
	}
}

func TestConflictingTransactions(t *testing.T) {
	_, _, contract := connected(t)
	id := create(t, contract)
	var commits []*client.Commit
	var endorsed []*client.Transaction
	for _, owner := range []string{"Ann", "Bob"} {
		proposal, err := contract.NewProposal("TransferAsset", client.WithArguments(id, owner))
		if err != nil {
			t.Fatal(err)
		}
		transaction, err := proposal.Endorse()
		if err != nil {
			t.Fatal(err)
		}
		endorsed = append(endorsed, transaction)
	}
	for _, transaction := range endorsed {
		commit, err := transaction.Submit()
		if err != nil {
			t.Fatal(err)
		}
		commits = append(commits, commit)
	}
	codesSeen := map[peer.TxValidationCode]int{}
	for _, commit := range commits {
		outcome, err := commit.Status()
		if err != nil {
			t.Fatal(err)
		}
		codesSeen[outcome.Code]++
	}
	if codesSeen[peer.TxValidationCode_VALID] != 1 || codesSeen[peer.TxValidationCode_MVCC_READ_CONFLICT] != 1 {
		t.Fatalf("codes %v", codesSeen)
	}
}

func TestEventsWithCheckpoint(t *testing.T) {
	network, channel, contract := connected(t)
	_, commit, err := contract.SubmitAsync("CreateAsset", client.WithArguments(NewID(), "red", "1", "Tom", "1"))
	if err != nil {
		t.Fatal(err)
	}
	first, err := commit.Status()
	if err != nil {
		t.Fatal(err)
	}
	wanted := []string{commit.TransactionID()}
	for range 2 {
		_, next, err := contract.SubmitAsync("CreateAsset", client.WithArguments(NewID(), "red", "1", "Tom", "1"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := next.Status(); err != nil {
			t.Fatal(err)
		}
		wanted = append(wanted, next.TransactionID())
	}
	checkpointer := new(client.InMemoryCheckpointer)
	for _, id := range wanted {
		// A new stream for every event: only the checkpoint carries the position.
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		events, err := channel.ChaincodeEvents(ctx, network.Chaincode,
			client.WithStartBlock(first.BlockNumber), client.WithCheckpoint(checkpointer))
		if err != nil {
			cancel()
			t.Fatal(err)
		}
		for event := range events {
			checkpointer.CheckpointChaincodeEvent(event)
			if event.TransactionID == id {
				break
			}
		}
		if ctx.Err() != nil {
			t.Fatal("the event did not come")
		}
		cancel()
	}
}
