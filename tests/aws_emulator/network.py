"""Addresses, network interfaces, and what EC2 says of them. Private and public addresses are loopback addresses of this
machine, from a block that no other emulator uses: private ones 127.B.x.y with x < 128, public ones with x >= 128."""

import itertools
import random
import socket
from collections import deque
from dataclasses import dataclass
from typing import Any, Optional

from aws_emulator.errors import ApiError
from aws_emulator.identity import ACCOUNT

VPC = "vpc-0emulator"


class Block:
    """127.B.0.0/16 with a B between 64 and 191, kept from other emulators by an abstract socket."""

    def __init__(self, number: Optional[int] = None) -> None:
        wanted = [number] if number is not None else random.sample(range(64, 192), 128)
        for one in wanted:
            self._claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                self._claim.bind(f"\0sbxfs-aws-emulator-127.{one}")
                self.number = one
                return
            except OSError:
                self._claim.close()
        raise RuntimeError(f"the blocks {wanted[:3]}... of 127/8 are taken by other emulators")

    def close(self) -> None:
        self._claim.close()


class Pool:
    """Addresses that are free. Those given back are used again last, or first."""

    def __init__(self, block: int, public: bool) -> None:
        offset = 128 if public else 0
        self._new = (f"127.{block}.{offset + i // 250}.{1 + i % 250}" for i in itertools.count())
        self._back: deque[str] = deque()
        self._made = 0

    def take(self, reuse: str) -> str:
        # Some thousands that were never used come first, so that an address seldom means two tasks by chance.
        if self._back and (reuse == "newest" or self._made > 8000):
            return self._back.pop() if reuse == "newest" else self._back.popleft()
        self._made += 1
        return next(self._new)

    def give_back(self, address: str) -> None:
        self._back.append(address)


@dataclass
class Interface:
    id: str
    mac: str
    subnet: str
    groups: list[str]
    private: str
    public: str  # empty: none
    task: str


class Network:
    """The world's lock is held by whoever calls."""

    def __init__(self, region: str, block: int) -> None:
        self.region = region
        self._private = Pool(block, public=False)
        self._public = Pool(block, public=True)
        self._numbers = itertools.count(1)
        self.interfaces: dict[str, Interface] = {}
        self.subnets = {"subnet-1": f"{region}a", "subnet-2": f"{region}b"}
        # Port ranges open to everybody here, by group.
        self.groups = {"sg-1": [(22, 22)], "sg-closed": []}
        self.actions = {
            "DescribeNetworkInterfaces": self.describe_network_interfaces,
            "DescribeRouteTables": self.describe_route_tables,
            "DescribeSecurityGroups": self.describe_security_groups,
            "DescribeSubnets": self.describe_subnets,
        }

    def attach(self, task: str, subnet: str, groups: list[str], public: bool, reuse: str,
               address: str = "") -> Interface:
        number = next(self._numbers)
        one = Interface(f"eni-{number:017x}", f"02:00:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}",
                        subnet, groups, address or self._private.take(reuse),
                        self._public.take(reuse) if public else "", task)
        self.interfaces[one.id] = one
        return one

    def detach(self, one: Interface) -> None:
        if self.interfaces.pop(one.id, None) is None:
            return
        self._private.give_back(one.private)
        if one.public:
            self._public.give_back(one.public)

    # --- EC2's actions

    def describe_network_interfaces(self, request: dict[str, Any]) -> dict[str, Any]:
        unknown = [one for one in request.get("NetworkInterfaceIds", []) if one not in self.interfaces]
        if unknown:
            raise ApiError("InvalidNetworkInterfaceID.NotFound", f"The networkInterface ID '{unknown[0]}' does not exist")
        rows = [{
            "NetworkInterfaceId": one.id, "Status": "in-use", "PrivateIpAddress": one.private, "SubnetId": one.subnet,
            "VpcId": VPC, "MacAddress": one.mac, "OwnerId": ACCOUNT, "RequesterManaged": True,
            "InterfaceType": "interface", "Description": f"arn:aws:ecs:{self.region}:{ACCOUNT}:attachment/{one.task}",
            "AvailabilityZone": self.subnets[one.subnet],
            "Groups": [{"GroupId": group, "GroupName": group} for group in one.groups],
            **({"Association": {"PublicIp": one.public, "IpOwnerId": "amazon"}} if one.public else {}),
        } for one in self.interfaces.values()]
        return self._page("NetworkInterfaces", rows, request, "NetworkInterfaceIds", "NetworkInterfaceId", {
            "network-interface-id": "NetworkInterfaceId", "subnet-id": "SubnetId", "status": "Status",
            "vpc-id": "VpcId", "private-ip-address": "PrivateIpAddress"})

    def describe_subnets(self, request: dict[str, Any]) -> dict[str, Any]:
        unknown = [one for one in request.get("SubnetIds", []) if one not in self.subnets]
        if unknown:
            raise ApiError("InvalidSubnetID.NotFound", f"The subnet ID '{unknown[0]}' does not exist")
        rows = [{"SubnetId": subnet, "VpcId": VPC, "State": "available", "CidrBlock": "127.0.0.0/17",
                 "AvailabilityZone": zone, "MapPublicIpOnLaunch": False, "AvailableIpAddressCount": 30000,
                 "OwnerId": ACCOUNT} for subnet, zone in self.subnets.items()]
        return self._page("Subnets", rows, request, "SubnetIds", "SubnetId",
                          {"subnet-id": "SubnetId", "vpc-id": "VpcId"})

    def describe_security_groups(self, request: dict[str, Any]) -> dict[str, Any]:
        unknown = [one for one in request.get("GroupIds", []) if one not in self.groups]
        if unknown:
            raise ApiError("InvalidGroup.NotFound", f"The security group '{unknown[0]}' does not exist")
        rows = [{"GroupId": group, "GroupName": group, "Description": "emulated", "VpcId": VPC, "OwnerId": ACCOUNT,
                 "IpPermissions": [{"IpProtocol": "tcp", "FromPort": least, "ToPort": most,
                                    "IpRanges": [{"CidrIp": "127.0.0.0/8"}]} for least, most in ports],
                 "IpPermissionsEgress": [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]}
                for group, ports in self.groups.items()]
        return self._page("SecurityGroups", rows, request, "GroupIds", "GroupId",
                          {"group-id": "GroupId", "vpc-id": "VpcId"})

    def describe_route_tables(self, request: dict[str, Any]) -> dict[str, Any]:
        rows = [{"RouteTableId": "rtb-1", "VpcId": VPC, "OwnerId": ACCOUNT,
                 "Associations": [{"RouteTableId": "rtb-1", "SubnetId": subnet, "Main": False,
                                   "RouteTableAssociationId": f"rtbassoc-{subnet}"} for subnet in self.subnets],
                 "Routes": [{"DestinationCidrBlock": "0.0.0.0/0", "GatewayId": "igw-1", "State": "active"}]}]
        wanted = [value for one in request.get("Filters", []) if one["Name"] == "association.subnet-id"
                  for value in one["Values"]]
        if wanted and not set(wanted) & set(self.subnets):
            rows = []
        return {"RouteTables": rows}

    @staticmethod
    def _page(member: str, rows: list[dict[str, Any]], request: dict[str, Any], ids: str, id_member: str,
              filters: dict[str, str]) -> dict[str, Any]:
        if ids in request and "MaxResults" in request:
            raise ApiError("InvalidParameterCombination", f"The parameter {ids} cannot be used with the parameter "
                                                          "maxResults")
        if request.get(ids):
            rows = [row for row in rows if row[id_member] in request[ids]]
        for one in request.get("Filters", []):
            if one.get("Name") not in filters:
                raise ApiError("InvalidParameterValue", f"The filter '{one.get('Name')}' is invalid")
            rows = [row for row in rows if row[filters[one["Name"]]] in one.get("Values", [])]
        start = int(request.get("NextToken", "0"))
        most = request.get("MaxResults", 1000)
        answer: dict[str, Any] = {member: rows[start:start + most]}
        if start + most < len(rows):
            answer["NextToken"] = str(start + most)
        return answer
