"""/_control: the emulator scripted and looked into, in JSON, unsigned. README.md has an example of each."""

import json
import signal
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from aws_emulator.clock import Clock
from aws_emulator.endings import read_ending
from aws_emulator.faults import Fault
from aws_emulator.identity import ACCOUNT, Key
from aws_emulator.images import Image
from aws_emulator.tasks import Task
from aws_emulator.world import World


class Control:
    def __init__(self, world: World) -> None:
        self._world = world

    def serve(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        """Status and answer."""
        words = [word for word in urlsplit(target).path.split("/") if word][1:]
        handler = getattr(self, f"_{method.lower()}_{words[0]}", None) if words else None
        if handler is None:
            known = sorted(name.split("_", 2)[1].upper() + " /_control/" + name.split("_", 2)[2] for name in dir(self)
                           if name.startswith(("_get_", "_post_", "_put_", "_delete_")))
            return 404, {"error": "there is no such thing", "known": known}
        try:
            said = json.loads(body) if body else {}
            with self._world.lock:
                return 200, handler(said, *words[1:])
        except LookupError as error:
            return 404, {"error": f"there is no {error}"}
        except (ValueError, TypeError, AttributeError) as error:
            return 400, {"error": str(error)}

    # --- faults

    def _get_faults(self, _: Any) -> Any:
        return [fault.as_json() for fault in self._world.faults.rules]

    def _post_faults(self, said: Any) -> Any:
        rules = [Fault.from_json(one) for one in (said if isinstance(said, list) else [said])]
        for rule in rules:
            if "end" in rule.args:
                read_ending(rule.args["end"])
        self._world.faults.rules += rules
        return self._get_faults(None)

    def _delete_faults(self, _: Any) -> Any:
        self._world.faults.rules.clear()
        return []

    # --- settings, keys, images

    def _get_settings(self, _: Any) -> Any:
        return self._world.settings.as_json()

    def _post_settings(self, said: Any) -> Any:
        self._world.settings.change(said)
        return self._world.settings.as_json()

    def _get_keys(self, _: Any) -> Any:
        return [{"id": key.id, "arn": key.arn, "allowed": key.allowed, "denied": key.denied,
                 "expires": key.expires.isoformat() if key.expires else None}
                for key in self._world.identity.keys.values()]

    def _post_keys(self, said: Any) -> Any:
        """{"id", "secret", "token", "arn", "allowed": [...], "denied": [...], "expires_in_s"}: a new one, or changes of one."""
        keys = self._world.identity.keys
        key = keys.get(said["id"]) or Key(said["id"], said.get("secret", "secret"), f"arn:aws:iam::{ACCOUNT}:user/other")
        for name in ("secret", "token", "arn", "allowed", "denied"):
            if name in said:
                setattr(key, name, said[name])
        if "expires_in_s" in said:
            key.expires = self._world.identity.now() + timedelta(seconds=said["expires_in_s"])
        keys[key.id] = key
        return self._get_keys(None)

    def _delete_keys(self, _: Any, key_id: str) -> Any:
        del self._world.identity.keys[key_id]
        return self._get_keys(None)

    def _post_clock(self, said: Any) -> Any:
        """{"skew_s": 600}: the services' clock is that much ahead of this machine's."""
        self._world.identity.skew_s = float(said["skew_s"])
        return said

    def _post_images(self, said: Any) -> Any:
        """{"NAME": {"entrypoint", "command", "environment", "workdir", "files", "covers", "error"}}"""
        self._world.images.known.update({name: Image.from_json(one) for name, one in said.items()})
        return sorted(self._world.images.known)

    def _post_clusters(self, said: Any) -> Any:
        for name in said:
            self._world.ecs.add_cluster(name)
        return sorted(self._world.ecs.clusters)

    # --- looking in

    def _get_calls(self, _: Any) -> Any:
        return {"calls": dict(self._world.calls), "errors": dict(self._world.errors), "all": sum(self._world.calls.values())}

    def _delete_calls(self, _: Any) -> Any:
        self._world.calls.clear()
        self._world.errors.clear()
        self._world.history.clear()
        return {}

    def _get_history(self, _: Any) -> Any:
        return list(self._world.history)

    def _get_tasks(self, _: Any, task_id: str = "") -> Any:
        if task_id:
            task = self._find(task_id)
            return {**task.summary(), "environment": {part.name: part.environment for part in task.parts}}
        return [task.summary() for task in self._world.ecs.everything]

    def _get_health(self, _: Any) -> Any:
        tasks = self._world.ecs.everything
        return {"time": Clock.date().isoformat(), "scale": self._world.clock.scale, "tasks": len(tasks),
                "living": sum(task.last_status != "STOPPED" for task in tasks),
                "processes": len(self._world.containers.running)}

    # --- one task

    def _post_tasks(self, said: Any, task_id: str) -> Any:
        """{"end": ENDING} ends it as ECS would; {"signal": "KILL"} ends its program, ECS finds out; {"forget": true}."""
        task = self._find(task_id)
        if "end" in said:
            task.end(read_ending(said["end"]))
        if "signal" in said:
            task.kill_process(signal.Signals[f"SIG{said['signal']}"])
        if said.get("forget"):
            self._world.ecs.forget(task)
        return task.summary()

    def _find(self, task_id: str) -> Task:
        for task in self._world.ecs.everything:
            if task_id == task.id:
                return task
        raise KeyError(f"task {task_id}")
