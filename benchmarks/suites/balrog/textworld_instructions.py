"""What an agent is told before a TextWorld game: BALROG's instructions in other words.

The step limits are the ones that BALROG's instructions name; its evaluator lets every game go on for 80 steps.
"""

from __future__ import annotations

_GO = "go <dir>: walk north, east, south or west, where there is an exit or a door"
_COMMON = f"""look: describe the room you are in
goal: print what this game wants of you
inventory: print what you carry
{_GO}
open ...: open a door or a container; a closed door must be opened before you can pass it
drop ...: lay something on the floor
take ...: take something that you can see
put ... on ...: put something on a supporter
take ... from ...: take something out of a container or off a supporter
insert ... into ...: put something into a container"""

INSTRUCTIONS = {
    "treasure_hunter": f"""You play TextWorld, a text adventure: search a randomly made maze for one particular object.
You will have to explore its rooms to find it. These are the commands:

{_COMMON}
unlock ... with ...: unlock a door or a container with a key; a locked door must be unlocked, with the matching key in \
your inventory, before you can open it

Hints:
- The object may lie in a container that is closed or locked.
- Adjectives tell which key fits which lock: a non-euclidean keycard fits a non-euclidean safe. Unlock only with the \
key that fits.
- A key may lie in another room or be locked in a container itself.
- Take every key that you can.
- What has been unlocked is still closed and has to be opened.

You have 40 steps. You may not restart.""",
    "the_cooking_game": f"""You play TextWorld, a text adventure: find a recipe, prepare its food and eat the meal.
You walk through rooms, use things and solve puzzles: first find the recipe, then find the food and process it as the \
recipe says, and in the end prepare the meal and eat it. These are the commands:

{_COMMON}
examine ...: look at something closely
eat ...: eat food
lock ... with ...: lock a door or a container with a key
unlock ... with ...: unlock a door or a container with a key
cook ... with ...: cook food with something hot
slice ... with ...: slice food with something sharp
chop ... with ...: chop food with something sharp
dice ... with ...: dice food with something sharp
prepare meal: make a meal of the ingredients in your inventory, in the kitchen only

Hints:
- Where you see the cookbook, examine it to read the recipe.
- A BBQ grills, a stove fries, an oven roasts. Food cooked in the wrong way loses the game.
- When the food is processed and the right appliance is at hand, cook everything as the recipe says.
- To grill, fry or roast something you need it in your inventory and a fitting appliance in the room; then \
'cook ... with ...'.
- To chop, slice or dice something you need it and the knife in your inventory; then 'chop/slice/dice ... with knife'.
- Chop, slice or dice before you cook.
- With all ingredients processed as the recipe says, 'prepare meal' in the kitchen and 'eat meal' win the game.
- The colours of ingredients must be exactly those of the recipe; where it names none, any will do. Use the exact \
names that you see.
- Something of which you read that nothing is on it or in it need not be examined.

You have 80 steps. You may not restart.""",
    "coin_collector": f"""You play TextWorld, a text adventure: search a randomly made maze for a coin.
You will have to explore its rooms to find it. These are the commands:

goal: print what this game wants of you
{_GO}
take coin: win the game by taking the coin, where you see it in the room

All that you can do is to walk through the maze with 'go <dir>' and to 'take coin' once you see the coin.

You have 25 steps. You may not restart.""",
}
