"""Where things are in a MiniWorld scene, and which way leads to them.

Everything here reads the simulator's state and draws no random number, so calling it never changes an episode.
Positions are in meters on the x-z floor plane; angles are in radians, positive to the left as in `Agent.dir`.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Literal

import numpy as np
from miniworld.math import intersect_circle_segs
from miniworld.objmesh import ObjMesh
from numpy.typing import NDArray

Side = Literal["left", "right", "ahead"]
Move = Literal["turn_left", "turn_right", "move_forward"]

_PORTAL_TOLERANCE = 0.05  # meters; YMaze's arms and hub miss each other by 12 mm
_SIGHT_STEP = 0.1  # meters between two collision tests along a line


def bearing(sim: Any, position: NDArray[np.float64]) -> float:
    """Angle from the agent's heading to a position, in [-pi, pi); positive is left."""
    dx, _, dz = np.asarray(position) - sim.agent.pos
    return _wrap(math.atan2(-dz, dx) - sim.agent.dir)


def turn_step(sim: Any) -> float:
    """Radians of one turn."""
    return math.radians(sim.params.sample(None, "turn_step"))


def side(sim: Any, entity: Any) -> Side:
    """Where an entity's center is: "ahead" within half a turn, where turning would not face it any better."""
    angle = bearing(sim, entity.pos)
    if abs(angle) <= turn_step(sim) / 2:
        return "ahead"
    return "left" if angle > 0 else "right"


def visible(sim: Any, entity: Any) -> bool:
    """Whether any part of an entity is in the picture; see `pixels_of`."""
    return bool(pixels_of(sim, entity).any())


def pixels_of(sim: Any, entity: Any) -> NDArray[np.bool_]:
    """The pixels (H, W) that show an entity: those that change when it is left out.

    This accounts for the field of view, walls, doors and other objects exactly as the renderer does. It costs two
    renderings and holds for entities that are not static (static ones are compiled into a display list).
    """
    index = sim.entities.index(entity)
    with_entity = sim.render_obs()
    del sim.entities[index]
    try:
        without_entity = sim.render_obs()
    finally:
        sim.entities.insert(index, entity)
    changed: NDArray[np.bool_] = (with_entity != without_entity).any(axis=-1)
    return changed


def entity_name(entity: Any) -> str:
    """What an entity is called, such as "red box", "blue key" or "medkit"."""
    color = getattr(entity, "color", None)
    if color is not None:
        return f"{color} box"
    # Mesh entities forget the name that they were made with; the package's cache of meshes is keyed by its file.
    stem = next(path for path, mesh in ObjMesh.cache.items() if mesh is entity.mesh).rpartition("/")[2][: -len(".obj")]
    shape, _, color = stem.partition("_")
    return f"{color} {shape}" if color else {"duckie": "duck"}.get(shape, shape)


def movable_entities(sim: Any) -> list[Any]:
    """Every object that is not part of the building, nearest first."""
    found = [entity for entity in sim.entities if entity is not sim.agent and not entity.is_static]
    return sorted(found, key=lambda entity: _distance(sim.agent.pos, entity.pos))


def move_towards(sim: Any, target: Any, forbidden: Any | None = None) -> Move:
    """The next move of a short walk to an entity, through doors and around what blocks the straight way.

    The agent faces the farthest point of the route (doors of the shortest chain of rooms, then the target) that it
    can walk to in a straight line. Among the headings that it can reach by turning, it takes the one nearest to that
    point whose first step is not blocked, so it neither stalls at a wall nor turns to and fro.

    Args:
        sim: the simulator.
        target: the entity to walk to.
        forbidden: a room that must not be entered.
    """
    waypoint = _waypoint(sim, target)
    step, turn = sim.params.sample(None, "forward_step"), turn_step(sim)
    angle = bearing(sim, waypoint)
    turns = round(math.pi / turn)
    for count in sorted(range(-turns, turns + 1), key=lambda count: (abs(angle - count * turn), abs(count))):
        heading = sim.agent.dir + count * turn
        position = sim.agent.pos + step * np.array([math.cos(heading), 0, -math.sin(heading)])
        blocked = sim.intersect(sim.agent, position, sim.agent.radius)
        if blocked or (forbidden is not None and forbidden.point_inside(position)):
            continue
        return "move_forward" if count == 0 else "turn_left" if count > 0 else "turn_right"
    return "turn_left"


def can_pick_up(sim: Any) -> bool:
    """Whether the action "pickup" would take an object now (the test of `MiniWorldEnv.step`)."""
    position = sim.agent.pos + sim.agent.dir_vec * 1.5 * sim.agent.radius
    entity = sim.intersect(sim.agent, position, 1.2 * sim.agent.radius)
    return sim.agent.carrying is None and not isinstance(entity, bool | None) and not entity.is_static


def _waypoint(sim: Any, target: Any) -> NDArray[np.float64]:
    """The farthest point of the route that can be walked to in a straight line; else the next door."""
    # Near the target its own clearance from walls may be less than the agent needs, and the agent stops before it.
    if _walkable(sim, target.pos, margin=sim.agent.radius + target.radius):
        return np.asarray(target.pos)
    doors = _doors(sim, target)
    for door in reversed(doors):
        if _walkable(sim, door):
            return door
    return doors[0] if doors else np.asarray(target.pos)


def _walkable(sim: Any, position: NDArray[np.float64], margin: float = 0.0) -> bool:
    """Whether no wall is nearer than the agent's radius on the straight way, up to `margin` meters before its end."""
    way = np.asarray(position) - sim.agent.pos
    length = math.hypot(way[0], way[2])
    points = np.arange(_SIGHT_STEP, max(length - margin, 0.0), _SIGHT_STEP)
    return not any(
        intersect_circle_segs(sim.agent.pos + way * (point / length), sim.agent.radius, sim.wall_segs)
        for point in points
    )


def _doors(sim: Any, target: Any) -> list[NDArray[np.float64]]:
    """Centers of the doors on the way to the target's room, by breadth-first search over rooms."""
    doors = [
        (index, room.outline[edge] + room.edge_dirs[edge] * (portal["start_pos"] + portal["end_pos"]) / 2)
        for index, room in enumerate(sim.rooms)
        for edge, portals in enumerate(room.portals)
        for portal in portals
    ]
    start, goal = _room(sim, sim.agent.pos), _room(sim, target.pos)
    routes: dict[int, list[NDArray[np.float64]]] = {start: []}
    queue = deque([start])
    while queue and goal not in routes:
        here = queue.popleft()
        for room, door in doors:
            if room != here:
                continue
            for neighbour, other in doors:
                if neighbour not in routes and _distance(door, other) < _PORTAL_TOLERANCE:
                    routes[neighbour] = [*routes[here], door]
                    queue.append(neighbour)
    return routes.get(goal, [])


def _room(sim: Any, position: NDArray[np.float64]) -> int:
    """Index of the room that holds a position, or of the nearest one where it stands on a threshold."""
    floor = np.array([position[0], 0.0, position[2]])
    for index, room in enumerate(sim.rooms):
        if room.point_inside(floor):
            return index
    centres = [np.array([room.mid_x, 0.0, room.mid_z]) for room in sim.rooms]
    return min(range(len(centres)), key=lambda index: _distance(floor, centres[index]))


def _distance(a: Any, b: Any) -> float:
    return math.hypot(a[0] - b[0], a[2] - b[2])


def _wrap(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi
